// Package upstream is a registry that pulls through from another one, and keeps what it saw.
//
// A [Registry] is a [registry.Registry] like any other: alone behind a handler it is a mirror, as a child of a [registry.Route] it is
// a part of the names, and behind a local registry in a [registry.FallThrough] it is where the rest comes from.
//
// What it keeps, it keeps in the stores that the local registry has, in repositories of its own whose names no client can write
// ([store.MirrorPrefix]): so contents are shared, the same collector takes what nobody needs, and what is evicted is never what somebody
// pushed. Every replica over the same stores sees what any of them has kept.
//
// A blob that is not kept is fetched by one request, however many ask this process for it. Its bytes go into a file without a name
// ([Spool]); everybody who wants the blob follows that file, each at a pace of his own as long as there is room for all of it, and so
// does whoever keeps it. Nobody is given the last byte before the whole has the right digest: who is given something wrong sees that the
// transfer breaks off. Only parts, which nobody can check, are passed on by themselves: a range far ahead of what has come, or of what
// there is no room for, and the rest for a client that held up all others. A transfer that breaks off on its way here goes on where it was. Of several replicas that fetch the same, one keeps it.
//
// A manifest by digest, once kept, is never asked for again. A tag is, by a HEAD request, when it was last confirmed longer than
// TagAge ago. While the upstream is down, slow or wants to be left alone, what it last said is served, with a warning; that it refuses
// is an answer, and served as one.
//
// Stores that fail do not fail a pull: what cannot be kept is passed on, and what cannot be read comes from the upstream. An upstream
// that misbehaves cannot lead this process to hosts which only it can reach, cannot have a password that is not its own, cannot have
// anything kept that is wrong, and cannot make visible what others have.
//
// What a blob costs that is kept is what it costs in a local repository: one query, and one read. One that is not kept costs one request
// upstream, and some five queries: whether it is kept (twice), whether another repository of the upstream has it, who keeps it, and
// what an upload costs. A tag that is fresh is one query; one that is not is a HEAD request and one more.
package upstream
