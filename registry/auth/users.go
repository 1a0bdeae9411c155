package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/crypto/bcrypt"

	"github.com/ocikit/ocikit/registry"
)

const (
	defaultMaxWait = 5 * time.Second

	// maxVerified is how many verified passwords are remembered; one takes about 150 bytes.
	maxVerified = 4096

	// verifiedFor is how long a verified password is remembered: longer than most pushes take.
	verifiedFor = 5 * time.Minute
)

// UsersOptions configures [LoadUsers] and [ParseUsers]. The zero value works.
type UsersOptions struct {
	Logger        *slog.Logger  // is told when the file was read again, or could not be. Default: slog.Default()
	MaxConcurrent int           // passwords that are compared at once, each of which keeps a core busy. Default: half of GOMAXPROCS, at least 1
	MaxWait       time.Duration // for one's turn to be compared, before the client is told to come back later. Default: 5 s
}

// Users are the names and passwords of an htpasswd file. It is safe for concurrent use. There is nothing to close.
type Users struct {
	accounts func() *accounts
	compare  func(hash, password []byte) error
	turns    chan struct{}
	maxWait  time.Duration

	// verified remembers that a password belongs to a hash, under a keyed hash of both. That stays true for ever: who is in the
	// file, with which hash, is looked up for each request. Passwords that were wrong are not remembered.
	verified *lru.Cache[proof, time.Time]
	secret   [sha256.Size]byte // of this process
}

// proof stands for a password and the hash that it was compared with.
type proof [sha256.Size]byte

// LoadUsers reads an htpasswd file, whose lines are user:hash, with hashes of bcrypt (htpasswd -B). A user whose password is
// hashed in another way, or a line that is malformed, is an error that names file and line.
//
// The file is read again when it changes: whoever was added, changed or deleted, is so with the next request. If it is then
// malformed, or cannot be read, what it said before stays in force, which is logged once; so to lock everybody out, empty it,
// rather than delete it. Write it elsewhere and rename it, as editors do, so that nobody reads half of it.
func LoadUsers(path string, opts *UsersOptions) (*Users, error) {
	if opts == nil {
		opts = &UsersOptions{}
	}
	file, err := openFile(path, opts.Logger, parseHtpasswd)
	if err != nil {
		return nil, fmt.Errorf("load users: %w", err)
	}
	return newUsers(file.value, opts)
}

// ParseUsers returns the users of an htpasswd file's text, as [LoadUsers] does.
func ParseUsers(htpasswd []byte, opts *UsersOptions) (*Users, error) {
	parsed, err := parseHtpasswd(htpasswd)
	if err != nil {
		return nil, fmt.Errorf("parse users: %w", err)
	}
	return newUsers(func() *accounts { return parsed }, opts)
}

func newUsers(current func() *accounts, opts *UsersOptions) (*Users, error) {
	if opts == nil {
		opts = &UsersOptions{}
	}
	concurrent := opts.MaxConcurrent
	if concurrent <= 0 {
		concurrent = max(1, runtime.GOMAXPROCS(0)/2)
	}
	verified, err := lru.New[proof, time.Time](maxVerified)
	if err != nil {
		return nil, fmt.Errorf("make the cache of verified passwords: %w", err)
	}
	u := &Users{
		accounts: current,
		compare:  bcrypt.CompareHashAndPassword,
		turns:    make(chan struct{}, concurrent),
		maxWait:  opts.MaxWait,
		verified: verified,
	}
	if u.maxWait <= 0 {
		u.maxWait = defaultMaxWait
	}
	rand.Read(u.secret[:])
	return u, nil
}

// Authenticate reports whether user has that password, of which bcrypt reads the first 72 bytes. A user that is unknown
// takes as long as one whose password is wrong.
//
// Comparing takes long on purpose: about 50 ms at a cost of 10. So a password that was right is remembered for five minutes, and
// no more than UsersOptions.MaxConcurrent are compared at once, so that guessing cannot eat the cores. Who waits for longer
// than UsersOptions.MaxWait gets a [*registry.RetryError] of ErrTooManyRequests. Any other error is ctx's.
func (u *Users) Authenticate(ctx context.Context, user, password string) (bool, error) {
	accounts := u.accounts()
	hash, known := accounts.hashes[user]
	if !known {
		hash = accounts.decoy
	}
	proof := u.proof(hash, password)
	if known && u.isVerified(proof) {
		return true, nil
	}
	if err := u.takeTurn(ctx); err != nil {
		return false, err
	}
	defer u.endTurn()
	if known && u.isVerified(proof) { // by the one that was waited for: clients send several requests at once
		return true, nil
	}
	err := u.compare([]byte(hash), []byte(password))
	switch {
	case errors.Is(err, bcrypt.ErrMismatchedHashAndPassword):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("compare password: %w", err)
	case known:
		u.verified.Add(proof, time.Now())
	}
	return known, nil
}

// proof needs no separator: all hashes have one length.
func (u *Users) proof(hash, password string) (p proof) {
	mac := hmac.New(sha256.New, u.secret[:])
	mac.Write([]byte(hash))
	mac.Write([]byte(password))
	mac.Sum(p[:0])
	return p
}

func (u *Users) isVerified(p proof) bool {
	at, ok := u.verified.Get(p)
	return ok && time.Since(at) < verifiedFor
}

// takeTurn waits until a core may be kept busy. The turns are given in the order in which they were asked for.
func (u *Users) takeTurn(ctx context.Context) error {
	select {
	case u.turns <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(u.maxWait)
	defer timer.Stop()
	select {
	case u.turns <- struct{}{}:
		return nil
	case <-timer.C:
		return &registry.RetryError{Err: registry.ErrTooManyRequests.With("too many logins at once"), After: u.maxWait}
	case <-ctx.Done():
		return fmt.Errorf("wait to compare password: %w", context.Cause(ctx))
	}
}

func (u *Users) endTurn() { <-u.turns }
