// Package modeltest drives an implementation of store.Metadata beside the reference, store/memory, and compares what they
// answer.
//
// The idea: storetest proves each rule by itself, with events that were thought of. Here random events meet in orders that
// nobody has thought of, some of them nonsense: stale versions, sessions that have ended, manifests whose references are
// missing, names that come back. What the reference answers to a sequence is what every implementation has to answer. A
// sequence is reproducible by its seed, and a failure tells the events before it.
package modeltest
