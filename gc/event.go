package gc

import "time"

// Step is a kind of work that a collector does.
type Step string

// The steps, in the order in which a round takes them.
const (
	StepLook         Step = "look"         // for what is due; at most once a second while batches are filled
	StepPulls        Step = "pulls"        // are recorded
	StepSessions     Step = "sessions"     // that have outlived their life are ended
	StepCandidates   Step = "candidates"   // are reviewed
	StepRepositories Step = "repositories" // that were deleted are drained
	StepGarbage      Step = "garbage"      // is deleted from the store
	StepPolicies     Step = "policies"     // are run over repositories
	StepEviction     Step = "eviction"     // of what was pulled through
)

// Steps returns all steps, in their order.
func Steps() []Step {
	return []Step{StepLook, StepPulls, StepSessions, StepCandidates, StepRepositories, StepGarbage, StepPolicies, StepEviction}
}

// Event is a step that was taken: one batch of work.
type Event struct {
	Step  Step
	Took  time.Duration
	Stats Stats // what this step did, also before it failed
	Err   error // or nil
}

// Stats counts what was done, or with [Preview], what would be.
type Stats struct {
	Rounds       int   `json:"rounds"`       // looks for what is due
	Sessions     int   `json:"sessions"`     // that were ended
	Tombstones   int   `json:"tombstones"`   // of finished uploads that were forgotten
	Candidates   int   `json:"candidates"`   // that are none any more
	Left         int   `json:"left"`         // candidates that somebody was busy with, for another time
	Links        int   `json:"links"`        // of content to a repository that were deleted
	Contents     int   `json:"contents"`     // that went with their last link
	Bytes        int64 `json:"bytes"`        // of these contents
	Drained      int   `json:"drained"`      // rows of repositories that were deleted
	Objects      int   `json:"objects"`      // that were deleted from the store, or were not there
	ObjectBytes  int64 `json:"objectBytes"`  // of these objects, as far as the index knows
	Failed       int   `json:"failed"`       // objects that could not be deleted, for another time
	Multiparts   int   `json:"multiparts"`   // multipart uploads that were aborted
	NotAborted   int   `json:"notAborted"`   // multipart uploads of sessions that were ended, for another time
	Manifests    int   `json:"manifests"`    // that policies deleted
	Tags         int   `json:"tags"`         // that policies deleted
	Evicted      int   `json:"evicted"`      // manifests of mirrored repositories that were idle, or too much
	EvictedBytes int64 `json:"evictedBytes"` // of contents that only these needed, of what is mirrored
	Pulls        int   `json:"pulls"`        // that were recorded
	DroppedPulls int   `json:"droppedPulls"` // that were too many to be recorded
}

// Add counts what other has counted as well.
func (s *Stats) Add(other Stats) {
	s.Rounds += other.Rounds
	s.Sessions += other.Sessions
	s.Tombstones += other.Tombstones
	s.Candidates += other.Candidates
	s.Left += other.Left
	s.Links += other.Links
	s.Contents += other.Contents
	s.Bytes += other.Bytes
	s.Drained += other.Drained
	s.Objects += other.Objects
	s.ObjectBytes += other.ObjectBytes
	s.Failed += other.Failed
	s.Multiparts += other.Multiparts
	s.NotAborted += other.NotAborted
	s.Manifests += other.Manifests
	s.Tags += other.Tags
	s.Evicted += other.Evicted
	s.EvictedBytes += other.EvictedBytes
	s.Pulls += other.Pulls
	s.DroppedPulls += other.DroppedPulls
}
