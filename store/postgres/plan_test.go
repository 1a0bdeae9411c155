package postgres_test

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store/postgres"
)

// recorder keeps each statement that is sent, with the arguments that it had first.
type recorder struct {
	mu         sync.Mutex
	statements map[string][]any
}

func (r *recorder) record(text string, args []any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.statements[text]; !ok {
		r.statements[text] = args
	}
}

func (r *recorder) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	r.record(data.SQL, data.Args)
	return ctx
}
func (r *recorder) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (r *recorder) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}
func (r *recorder) TraceBatchQuery(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	r.record(data.SQL, data.Args)
}
func (r *recorder) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// sorts are parts of the only statements that may sort: what one manifest refers to, the holders of one digest, and what is a page
// already.
var sorts = []string{
	"select child from", "where l.digest = $1 and r.name > $2", "order by r.name, p.digest", "for update skip locked) locked", "unknown (k) order by k",
	"group by name", "k.touched <=", "order by l.name, l.digest",
}

// looksAtUploads is part of the only statements that look at every upload under way: those of an audit.
const looksAtUploads = "select unnest(array[reserved_blob"

// TestEveryStatementFindsItsRowsByAnIndex asks PostgreSQL how it would run all that the methods send, on an index of some size,
// with plans for the arguments at hand, and with plans for any. The smaller an index is, the more a scan of all of it tempts.
func TestEveryStatementFindsItsRowsByAnIndex(t *testing.T) {
	t.Parallel()
	schema := newSchema(t)
	sent := &recorder{statements: map[string][]any{}}
	pool := newPool(t, 2, func(config *pgxpool.Config) { config.ConnConfig.Tracer = sent })
	m := open(t, pool, &postgres.Options{Schema: schema})
	fill(t, newPool(t, 1), schema, size{tags: 50_000, repositories: 20_000, layers: 2})
	countCalls(t, m, "full", new(atomic.Int64))

	conn, err := newPool(t, 1).Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	// Each statement is tried alone, without those that put there what it refers to.
	_, err = conn.Exec(t.Context(), "set session_replication_role = replica")
	require.NoError(t, err)
	asked := 0
	for i, text := range slices.Sorted(maps.Keys(sent.statements)) {
		if !strings.Contains(text, schema) || strings.Contains(text, "goose") {
			continue // begin and commit
		}
		asked++
		name := fmt.Sprint("statement_", i)
		_, err := conn.Exec(t.Context(), "prepare "+name+" as "+text, pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err, text)
		for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
			plan := explain(t, conn.Conn(), name, mode, sent.statements[text])
			message := fmt.Sprintf("under %s\n%s\nruns as\n%s", mode, text, plan)
			if strings.Contains(text, looksAtUploads) {
				assert.NotRegexp(t, `Seq Scan on (?:contents|garbage|tails|\w+_1)`, plan, message)
				continue
			}
			assert.NotRegexp(t, `(?m)Seq Scan on`, plan, message)
			requireAtMost(t, mostRows, counts, plan, message)
			requireAtMost(t, mostPages, pages, plan, message)
			if !slices.ContainsFunc(sorts, func(part string) bool { return strings.Contains(text, part) }) {
				assert.NotRegexp(t, sortNode, plan, message)
			}
		}
	}
	require.Greater(t, asked, 45, "the statements of all methods")
}

// mostRows and mostPages are more than any of the calls has to look at, and far less than what the repository has.
const mostRows, mostPages = 50, 150

var (
	// counts are the rows that a step found, or threw away.
	counts = regexp.MustCompile(`(?:actual rows=|Rows Removed by \w+(?: \w+)?: )(\d+)`)
	// pages are what a step and those below it looked at.
	pages = regexp.MustCompile(`Buffers: shared hit=(\d+)`)
)

// requireAtMost holds all numbers of a plan to a bound.
func requireAtMost(t *testing.T, most int, numbers *regexp.Regexp, plan, message string) {
	t.Helper()
	for _, number := range numbers.FindAllStringSubmatch(plan, -1) {
		n, err := strconv.Atoi(number[1])
		require.NoError(t, err)
		assert.LessOrEqual(t, n, most, "%s: %s", number[0], message)
	}
}

var sortNode = regexp.MustCompile(`(?m)^\W*(Incremental )?Sort  \(`)

// explain returns the plan of a prepared statement, and what came of it when it was run. What it did is undone.
func explain(t *testing.T, conn *pgx.Conn, name, mode string, args []any) string {
	t.Helper()
	_, err := conn.Exec(t.Context(), "set plan_cache_mode = "+mode)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "begin")
	require.NoError(t, err)
	defer func() {
		_, err := conn.Exec(t.Context(), "rollback")
		require.NoError(t, err)
	}()
	statement := "explain (analyze, buffers, timing off) execute " + name
	if len(args) > 0 {
		numbers := make([]string, len(args))
		for i := range args {
			numbers[i] = fmt.Sprintf("$%d", i+1)
		}
		statement += "(" + strings.Join(numbers, ", ") + ")"
	}
	rows, err := conn.Query(t.Context(), statement, append([]any{pgx.QueryExecModeSimpleProtocol}, args...)...)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err, statement)
	plan, _, _ := strings.Cut(strings.Join(lines, "\n"), "\nPlanning")
	return plan
}
