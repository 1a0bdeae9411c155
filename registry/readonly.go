package registry

// ReadOnly returns a registry that reads and lists what r does, and fails with ErrUnsupported to write or delete.
func ReadOnly(r Registry) Registry { return readOnly{Reader: r, Lister: r} }

// readOnly has the methods of Reader and Lister, and refuses those that are left: a method that is embedded less deep wins.
type readOnly struct {
	Reader
	Lister
	refused
}

type refused struct{ Unsupported }
