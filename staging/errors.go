package staging

import "fmt"

// OffsetError says that a chunk does not begin where the upload stands, or that another writer took the upload over
// meanwhile.
type OffsetError struct {
	Upload Upload // as it stands
}

func (e *OffsetError) Error() string { return fmt.Sprintf("upload continues at %d", e.Upload.Offset) }

// SizeError says that content would be larger than what is taken.
type SizeError struct {
	Limit int64 // bytes
}

func (e *SizeError) Error() string { return fmt.Sprintf("larger than %d bytes", e.Limit) }

// BodyError says that reading the client's body failed: the connection was cut, or it stalled. What came before is kept.
type BodyError struct {
	Err error
}

func (e *BodyError) Error() string { return "read body: " + e.Err.Error() }

// Unwrap returns Err.
func (e *BodyError) Unwrap() error { return e.Err }
