// Package gc collects what nothing refers to, while the registry is in use: there is no read-only mode, no marking and no
// sweeping, and nothing that grows with what is stored. Any number of replicas may collect at once, and beside them a
// program that is started by hand.
//
// The index says what there is to do, because each event leaves its traces there: a push or a delete leaves a candidate,
// what is named no more leaves its key in the garbage, an upload is a session. [Run] asks with one probe whether
// anything is due, and then takes batches of each kind, in short transactions:
//
//   - Sessions that have outlived their life are ended, which fences their writers off, and their keys are condemned.
//   - Candidates whose grace is over are reviewed. A link that no manifest needs goes, content goes with its last link, and
//     the content's key is condemned, in one transaction that has locked all of them before it looked. An upload, a HEAD, a
//     mount and a repeated push renew the grace.
//   - Repositories that were deleted are drained, some rows at a time.
//   - Objects that were condemned long enough ago, so that no reader and no late writer has business with them, are
//     deleted from the store, and only then forgotten.
//
// So the index goes first and the bytes second, and a collector that dies between any two steps leaves what the next one
// finishes. The objects are never listed. Every key is written under by one upload only, so deleting one cannot hit
// content that was pushed again.
//
// [Run] works in batches of some milliseconds, and waits after each for so long that it works a twentieth of the time at most, by
// default, however much is due: clients hardly notice it. Who is in a hurry calls [Once] beside it, which waits for nobody.
//
// A [Policy], which there is none of by default, takes more along than what nobody refers to: old tags, manifests without
// tags, referrers of what was deleted. [Preview] tells beforehand what would go, and why.
//
// An [Eviction] lets go what was pulled through from upstreams: manifests that nobody has pulled for long, or, when there is more
// than a budget, the ones that were pulled the longest ago. What was pushed is in repositories of its own, and is never
// evicted; policies in turn do not see what was pulled through.
//
// [Audit] is the second line, for what is not supposed to happen: it compares all that is stored with the index, reports
// what does not fit, and repairs on request what can be repaired, also while everything runs.
//
// An index that was restored from a backup names objects that may have been deleted since: audit before collecting.
// Never collect with a copy of an index over objects that the original still uses.
package gc
