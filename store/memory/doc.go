// Package memory implements both contracts of [store] in the process's memory: [Objects] and [Metadata] are maps, each under
// one mutex. It has no files, no goroutines and nothing to close, so it is what unit tests push to and pull from, and it
// is the reference that the other implementations are compared with: where their behaviour is in doubt, read it here.
//
// Nothing survives the process. Everything else of the contracts holds, fencing and garbage included. Two handlers over
// the same two values are two replicas.
//
// [ObjectsOptions] can take on the limits of a stricter store, S3's for example, to test what those limits lead to.
package memory
