package upstream

import "regexp"

// A redirect may lead to a URL that is signed: whoever has it has the content, as long as the signature is good. So what a URL has
// beyond its path, or before its host, is in no error: those end up in logs.
var (
	afterPath  = regexp.MustCompile(`[?#]\S+?("?:?)(\s|$)`)
	beforeHost = regexp.MustCompile(`://[^/\s@]*@`)
)

// publicError is an error whose text has no secrets of URLs.
type publicError struct {
	text string
	err  error
}

func (e *publicError) Error() string { return e.text }
func (e *publicError) Unwrap() error { return e.err }

// withoutSecrets returns an error of a request as others may see it.
func withoutSecrets(err error) error {
	text := beforeHost.ReplaceAllString(afterPath.ReplaceAllString(err.Error(), "?…$1$2"), "://")
	if text == err.Error() {
		return err
	}
	return &publicError{text, err}
}
