//go:build !linux

package backendtest

// hasAttributes reports that nothing is known of extended attributes, so that
// they are not used.
func hasAttributes(string) bool { return false }
