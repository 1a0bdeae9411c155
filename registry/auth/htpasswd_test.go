package auth_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/registry/auth"
)

const goodHash = "$2y$04$eDUCdZsr7eSIoUz3llFmuOaYOQ0WmfIIJZYQoORLDhYIIsxJlNMNO"

func TestHtpasswdFilesThatPeopleHave(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"comments and empty lines": "# users\n\n" + alice + "\n  \n",
		"lines that end in CRLF":   strings.ReplaceAll(bob+alice, "\n", "\r\n"),
		"no line end":              bob + strings.TrimSpace(alice),
		"a byte order mark":        "\ufeff" + alice,
		"spaces after a hash":      strings.TrimSpace(alice) + "  \n",
	} {
		requireLogin(t, newUsers(t, text, nil), "alice", "secret", true)
		t.Log(name)
	}
	requireLogin(t, newUsers(t, "", nil), "alice", "secret", false)
}

func TestBadHtpasswdIsRefusedWithLineAndFix(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		line string
		want []string
	}{
		"MD5":                  {"bob:$apr1$fzBqd0Kd$kAvGYCJbWDTOEnCJ9b1dr1", []string{`user "bob"`, "MD5", "run htpasswd -B -C 10 FILE bob"}},
		"SHA-1":                {"bob:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", []string{"SHA-1", "htpasswd -B"}},
		"SHA-512":              {"bob:$6$salt$abcdef", []string{"SHA-512", "htpasswd -B"}},
		"argon2":               {"bob:$argon2id$v=19$m=65536", []string{"argon2", "htpasswd -B"}},
		"plain text":           {"bob:hunter2", []string{"plain text", "htpasswd -B"}},
		"no password":          {"bob:", []string{"plain text", "htpasswd -B"}},
		"old bcrypt":           {"bob:$2x$" + goodHash[4:], []string{"early, broken", "htpasswd -B"}},
		"cut short":            {"bob:" + goodHash[:59], []string{"cut short", "htpasswd -B"}},
		"not of the alphabet":  {"bob:" + goodHash[:59] + "!", []string{"malformed", "htpasswd -B"}},
		"a cost that is none":  {"bob:$2y$x4$" + goodHash[7:], []string{"cost", "htpasswd -B"}},
		"a cost too low":       {"bob:$2y$03$" + goodHash[7:], []string{"cost", "htpasswd -B"}},
		"a cost that eats":     {"bob:$2y$31$" + goodHash[7:], []string{"cost of 31", "at most 15", "htpasswd -B -C 10"}},
		"no colon":             {"bob", []string{"user:hash", "colon"}},
		"no user":              {":" + goodHash, []string{"empty"}},
		"a reserved name":      {"anonymous:" + goodHash, []string{"anonymous", "policy"}},
		"a star for a name":    {"*:" + goodHash, []string{`"*"`, "policy"}},
		"a space before":       {" bob:" + goodHash, []string{"space"}},
		"a control character":  {"b\tb:" + goodHash, []string{"control"}},
		"the same user twice":  {"alice:" + goodHash, []string{`user "alice"`, "line 2"}},
		"a field after a hash": {"bob:" + goodHash + ":Bob", []string{"malformed"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := "# users\n" + alice + "\n" + test.line + "\n"
			_, err := auth.ParseUsers([]byte(text), nil)
			require.ErrorContains(t, err, "line 4:")
			for _, want := range test.want {
				require.ErrorContains(t, err, want)
			}
			if _, secret, ok := strings.Cut(test.line, ":"); ok && secret != "" {
				assert.NotContains(t, err.Error(), secret, "neither hashes nor passwords are shown")
			}

			path := t.TempDir() + "/users"
			write(t, path, text, 0)
			_, err = auth.LoadUsers(path, nil)
			require.ErrorContains(t, err, path+": line 4:")
		})
	}
}

// Whatever a file holds, it is either refused with its line, or each of its users has a hash of bcrypt that is quick enough.
func FuzzParseUsers(f *testing.F) {
	for _, seed := range []string{"", alice, alice + bob, alice + bob2, "\ufeff" + alice, "a:b", "a:$2y$99$" + goodHash[7:], ":", "#", "\r\n", "a:$2", "a:$2y$"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		users, err := auth.ParseUsers(text, nil)
		if err != nil {
			require.Regexp(t, `^parse users: line [0-9]+: `, err.Error())
			return
		}
		users.SetCompare(func(hash, _ []byte) error {
			require.Regexp(t, `^\$2[aby]\$(0[4-9]|1[0-5])\$[./A-Za-z0-9]{53}$`, string(hash))
			return nil
		})
		for line := range strings.Lines(string(text)) {
			user, _, _ := strings.Cut(line, ":")
			_, err := users.Authenticate(t.Context(), user, "secret")
			require.NoError(t, err)
		}
	})
}
