package auth

// SetCompare replaces how passwords are compared, which tests count and hold up.
func (u *Users) SetCompare(compare func(hash, password []byte) error) { u.compare = compare }
