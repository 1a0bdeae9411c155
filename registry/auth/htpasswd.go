package auth

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

const (
	// maxCost is the largest cost of a hash: a login that takes two seconds. Each step doubles it, so that a mistyped cost of 31
	// would take two days of a core, for every login.
	maxCost = 15

	// bcryptSize is the length of a hash: "$2y$10$", 22 characters of salt, 31 of hash.
	bcryptSize = 60

	bcryptAlphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
)

// accounts are what an htpasswd file says. It is not changed once it is made.
type accounts struct {
	hashes map[string]string // by user
	decoy  string            // a hash that takes as long to compare as the slowest of hashes, and that nobody's password has
}

// parseHtpasswd parses lines of the form user:hash. Empty lines, and those that begin with #, say nothing. No error shows a
// hash, or what may be a password.
func parseHtpasswd(text []byte) (*accounts, error) {
	parsed := &accounts{hashes: map[string]string{}}
	lines := map[string]int{}
	slowest := 0
	number := 0
	for line := range strings.Lines(strings.TrimPrefix(string(text), "\ufeff")) {
		number++
		line = strings.TrimRight(line, " \t\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		user, hash, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("line %d: want user:hash, as htpasswd -B writes it; there is no colon", number)
		}
		if err := checkUser(user); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if before, ok := lines[user]; ok {
			return nil, fmt.Errorf("line %d: user %q is in line %d, too: delete one of them", number, user, before)
		}
		cost, err := bcryptCost(hash)
		if err != nil {
			return nil, fmt.Errorf("line %d: user %q: %w: run htpasswd -B -C 10 FILE %s", number, user, err, user)
		}
		parsed.hashes[user] = hash
		lines[user] = number
		slowest = max(slowest, cost)
	}
	if slowest == 0 {
		slowest = bcrypt.DefaultCost
	}
	parsed.decoy = fmt.Sprintf("$2y$%02d$%s", slowest, strings.Repeat(".", bcryptSize-len("$2y$10$")))
	return parsed, nil
}

// checkUser refuses what a client cannot send as a user's name, and what means somebody else in a policy.
func checkUser(user string) error {
	switch {
	case user == "":
		return errors.New("the user's name is empty")
	case strings.TrimSpace(user) != user:
		return fmt.Errorf("user %q: a name cannot begin or end with a space", user)
	case user == anybody || user == anyUser:
		return fmt.Errorf("%q cannot be a user's name: in a policy it means others, too", user)
	case strings.ContainsFunc(user, func(r rune) bool { return r < ' ' || r == 0x7f || r == ':' }):
		return fmt.Errorf("user %q: a name cannot have a colon or control characters", user)
	}
	return nil
}

// bcryptCost returns the cost of a bcrypt hash. Its errors tell what else it is.
func bcryptCost(hash string) (int, error) {
	for _, other := range []struct{ prefix, kind string }{
		{"$apr1$", "MD5 (apr1)"},
		{"$1$", "MD5 (crypt)"},
		{"$5$", "SHA-256 (crypt)"},
		{"$6$", "SHA-512 (crypt)"},
		{"$argon2", "argon2"},
		{"{SHA}", "SHA-1"},
		{"$2x$", "bcrypt of an early, broken version"},
	} {
		if strings.HasPrefix(hash, other.prefix) {
			return 0, fmt.Errorf("the password is hashed with %s, and only bcrypt is accepted", other.kind)
		}
	}
	if len(hash) < len("$2y$") || hash[:2] != "$2" || !strings.Contains("aby", hash[2:3]) || hash[3] != '$' {
		return 0, errors.New("the password is plain text or of an unknown kind, and only bcrypt is accepted")
	}
	if len(hash) != bcryptSize || hash[6] != '$' || strings.Trim(hash[7:], bcryptAlphabet) != "" {
		return 0, errors.New("the bcrypt hash is cut short or malformed")
	}
	cost, err := strconv.ParseUint(hash[4:6], 10, 8)
	if err != nil || cost < uint64(bcrypt.MinCost) {
		return 0, errors.New("the bcrypt hash is malformed: its cost is no number of at least 4")
	}
	if cost > maxCost {
		return 0, fmt.Errorf("a bcrypt cost of %d makes every login take seconds; at most %d is accepted", cost, maxCost)
	}
	return int(cost), nil
}
