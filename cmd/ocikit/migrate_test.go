package main

import (
	"bytes"
	"context"
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/internal/backendtest"
)

// migrate runs ocikit migrate and returns what it printed.
func migrate(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	require.Zero(t, run(t.Context(), append([]string{"migrate"}, args...), &stdout, &stderr), stderr.String())
	return stdout.String()
}

func TestMigrateTellsWhatIsAppliedBeforeAndAfter(t *testing.T) {
	t.Parallel()
	url := backendtest.Postgres(t).Database(t)
	before := migrate(t, "status", "--database="+url)
	assert.Regexp(t, `^VERSION +NAME +APPLIED\n1 +\S+\.sql +no\n`, before)

	after := migrate(t, "up", "--database="+url)
	assert.Regexp(t, `\n1 +\S+\.sql +20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ\n`, after)
	assert.NotContains(t, after, " no\n", "nothing is left to do")
	assert.Equal(t, after, migrate(t, "up", "--database="+url), "once more changes nothing")
	assert.Equal(t, after, migrate(t, "status", "--database="+url))
	assert.Contains(t, migrate(t, "status", "--database="+url+"&schema=other"), " no\n", "another schema is another registry")
}

func TestMigrationsMayRunAtOnce(t *testing.T) {
	t.Parallel()
	url := backendtest.Postgres(t).Database(t)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			var stderr bytes.Buffer
			assert.Zero(t, run(t.Context(), []string{"migrate", "up", "--database=" + url}, io.Discard, &stderr), "%s", &stderr)
		})
	}
	group.Wait()
	assert.NotContains(t, migrate(t, "status", "--database="+url), " no\n")
}

func TestPrintedSQLMakesASchemaThatIsServedFrom(t *testing.T) {
	t.Parallel()
	url := backendtest.Postgres(t).Database(t)
	connection, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer connection.Close(context.WithoutCancel(t.Context()))
	_, err = connection.Exec(t.Context(), migrate(t, "sql", "--schema=printed"), pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)

	assert.NotContains(t, migrate(t, "status", "--database="+url+"&schema=printed"), " no\n", "what was run by hand is known as applied")
	s := start(t, "--database="+url+"&schema=printed", "--objects=file:"+t.TempDir())
	s.stop(t)
}

func TestMigrateSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"SQLite":      {[]string{"up", "--database=sqlite:x"}, "--database: only PostgreSQL"},
		"NoURL":       {[]string{"up"}, "--database"},
		"Nonsense":    {[]string{"status", "--database=nonsense"}, "--database: want"},
		"NoServer":    {[]string{"up", "--database=postgres://alice:hunter2@127.0.0.1:1/x"}, "--database: nothing listens"},
		"Schema":      {[]string{"sql", "--schema=1"}, "--schema"},
		"NoCommand":   {nil, "status"},
		"SchemaInURL": {[]string{"up", "--database=" + backendtest.Postgres(t).URL() + "&schema=1x"}, "--database"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stderr bytes.Buffer
			require.Equal(t, 1, run(t.Context(), append([]string{"migrate"}, test.args...), io.Discard, &stderr))
			text := regexp.MustCompile(`(?s)^.*ocikit: `).ReplaceAllString(stderr.String(), "")
			assert.Contains(t, text, test.want)
			assert.Equal(t, 1, strings.Count(text, "\n"), "in one line: %s", text)
			assert.NotContains(t, stderr.String(), "hunter2")
		})
	}
}
