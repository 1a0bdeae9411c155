package upstream

import "time"

// Outcome is how a request for something went that an upstream has.
type Outcome string

// The outcomes.
const (
	Kept     Outcome = "kept"     // it was here already
	Fetched  Outcome = "fetched"  // it came from the upstream, and was kept
	Passed   Outcome = "passed"   // it came from the upstream, and was not kept: another replica does that, or it was only a part, or its size
	Unkept   Outcome = "unkept"   // it came from the upstream, and the stores did not take it, or cannot read what they have
	Followed Outcome = "followed" // it is on its way for somebody else, and was shared
	Stale    Outcome = "stale"    // the last known answer was served, since the upstream gave none
	Missing  Outcome = "missing"  // the upstream does not have it
	Failed   Outcome = "failed"   // the upstream gave no right answer
)

// Outcomes returns all outcomes.
func Outcomes() []Outcome {
	return []Outcome{Kept, Fetched, Passed, Unkept, Followed, Stale, Missing, Failed}
}

// Kind is what was asked for.
type Kind string

// The kinds.
const (
	KindBlob     Kind = "blob"
	KindManifest Kind = "manifest"
)

// Event is something that happened.
type Event struct {
	Upstream string
	Kind     Kind
	Outcome  Outcome
	Bytes    int64         // that came from the upstream
	Took     time.Duration // until they had come; 0 where nothing did
	Err      error         // why it failed, is stale, or was not kept; or nil
}
