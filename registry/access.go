package registry

// Action is what somebody wants to do in a repository.
type Action string

// The actions. All but ActionList have the names that token scopes use.
const (
	ActionPull   Action = "pull"
	ActionPush   Action = "push"
	ActionDelete Action = "delete"
	ActionList   Action = "list" // of all repositories: the catalog; Repository is empty
)

// Access is one thing that a request needs to be allowed.
type Access struct {
	Repository string
	Action     Action
	Optional   bool // without it the request goes on, with less: a mount's source, each entry of a list
}
