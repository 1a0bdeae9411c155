package e2e_test

import (
	"encoding/xml"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/internal/servertest"
	"github.com/ocikit/ocikit/internal/tooltest"
	"github.com/stretchr/testify/require"
)

// minimumCases is what the suite runs, at the least, with everything enabled:
// it ends with status 0, and next to no cases, when it could not set itself up.
const (
	minimumCases       = 780
	minimumSparseCases = minimumCases + 37 // what the sparse tests add
)

// everything enables all that the suite can be asked for by name. Most of it is
// on in the suite's version "dev" anyway; written down, a change of its defaults
// takes nothing away unseen.
func everything() map[string]string {
	settings := map[string]string{
		"OCI_VERSION": "dev",
		"OCI_TLS":     "disabled",
		"OCI_REPO1":   "conformance/one",
		"OCI_REPO2":   "conformance/two",
	}
	for _, name := range []string{
		"API_PING", "API_PULL", "API_PUSH", "API_REFERRER",
		"API_BLOBS_ATOMIC", "API_BLOBS_DELETE", "API_BLOBS_DIGEST_HEADER",
		"API_BLOBS_MOUNT_ANONYMOUS", "API_BLOBS_UPLOAD_CANCEL",
		"API_MANIFESTS_ATOMIC", "API_MANIFESTS_DELETE", "API_MANIFESTS_DIGEST_HEADER", "API_MANIFESTS_TAG_PARAM",
		"API_TAGS_ATOMIC", "API_TAGS_DELETE", "API_TAGS_LIST",
		"DATA_IMAGE", "DATA_INDEX", "DATA_INDEX_LIST", "DATA_ARTIFACT", "DATA_ARTIFACT_LIST",
		"DATA_SUBJECT", "DATA_SUBJECT_MISSING", "DATA_SUBJECT_LIST",
		"DATA_DATA_FIELD", "DATA_NONDISTRIBUTABLE", "DATA_CUSTOM_FIELDS",
		"DATA_NO_LAYERS", "DATA_EMPTY_BLOB", "DATA_SHA512",
	} {
		settings["OCI_"+name] = "true"
	}
	return settings
}

// TestConformance runs the OCI conformance suite. By hand, against a server that
// is running:
//
//	go install github.com/opencontainers/distribution-spec/conformance@v0.0.0-20260831232431-97274622c111
//	OCI_REGISTRY=localhost:5000 OCI_TLS=disabled OCI_VERSION=dev OCI_RESULTS_DIR=results conformance
//
// and read results/report.html. OCI_DATA_SPARSE=true adds the tests that need a
// server with --allow-missing-references, OCI_USERNAME and OCI_PASSWORD log in.
func TestConformance(t *testing.T) {
	t.Parallel()
	tooltest.Require(t, "conformance")
	memory := []string{"--database", "memory:", "--objects", "memory:"}
	for _, run := range []struct {
		name     string
		server   func(t *testing.T) []string
		settings map[string]string
		minimum  int
	}{
		{
			name:    "memory",
			server:  func(*testing.T) []string { return memory },
			minimum: minimumCases,
		},
		{
			name:    "sqlite and filesystem",
			server:  func(t *testing.T) []string { return []string{"--data", t.TempDir()} },
			minimum: minimumCases,
		},
		{
			name:     "memory, sparse",
			server:   func(*testing.T) []string { return append(memory[:4:4], "--allow-missing-references") },
			settings: map[string]string{"OCI_DATA_SPARSE": "true"},
			minimum:  minimumSparseCases,
		},
		{
			name:     "sqlite and filesystem, sparse",
			server:   func(t *testing.T) []string { return []string{"--data", t.TempDir(), "--allow-missing-references"} },
			settings: map[string]string{"OCI_DATA_SPARSE": "true"},
			minimum:  minimumSparseCases,
		},
		{
			name:     "with a password",
			server:   func(t *testing.T) []string { return []string{"--data", t.TempDir(), "--htpasswd", writeHtpasswd(t)} },
			settings: map[string]string{"OCI_USERNAME": user, "OCI_PASSWORD": password},
			minimum:  minimumCases,
		},
		{
			name:     "with a password that every request is asked for",
			server:   func(t *testing.T) []string { return append(memory[:4:4], "--htpasswd", writeHtpasswd(t)) },
			settings: map[string]string{"OCI_USERNAME": user, "OCI_PASSWORD": password, "OCI_CACHE_AUTH": "false"},
			minimum:  minimumCases,
		},
	} {
		t.Run(run.name, func(t *testing.T) {
			t.Parallel()
			requireConformance(t, servertest.Start(t, run.server(t)...).Address, run.settings, run.minimum)
		})
	}
}

// The same suite, on replicas that share PostgreSQL and a bucket: on one
// directly, and on several, each request on the next over a connection of its
// own.
func TestConformanceOfReplicas(t *testing.T) {
	t.Parallel()
	tooltest.Require(t, "conformance")
	for _, replicas := range []int{1, 2, 3} {
		t.Run(fmt.Sprintf("%d", replicas), func(t *testing.T) {
			t.Parallel()
			eachStore(t, func(t *testing.T, store *backendtest.S3Server) {
				c := newCluster(t, replicas, store)
				if replicas == 1 {
					requireConformance(t, c.replicas[0].Address, nil, minimumCases)
					return
				}
				requireConformance(t, c.proxy.Address(), nil, minimumCases)
				c.requireUploadsTouchedEveryReplica(t, replicas)
			})
		})
	}
}

// requireConformance runs the suite against an address, and requires that all its
// cases passed, and that there were as many as there should be.
func requireConformance(t *testing.T, address string, settings map[string]string, minimum int) {
	t.Helper()
	cases := runConformance(t, address, settings)
	require.GreaterOrEqual(t, len(cases), minimum, "the number of test cases")
	var offenders []string
	for _, each := range cases {
		if each.Status != "passed" {
			offenders = append(offenders, fmt.Sprintf("%s: %s: %s", each.Status, each.Name, each.Message))
		}
	}
	if len(offenders) > 0 {
		t.Fatalf("%d of %d test cases did not pass:\n%s", len(offenders), len(cases), strings.Join(offenders, "\n"))
	}
	t.Logf("%d test cases passed", len(cases))
}

// conformanceCase is a test case of the suite's JUnit report. Its outcome is the
// attribute: the report has no elements for failures.
type conformanceCase struct {
	Name    string `xml:"name,attr"`
	Status  string `xml:"status,attr"`
	Message string `xml:"system-out"`
}

func runConformance(t *testing.T, address string, settings map[string]string) []conformanceCase {
	t.Helper()
	suite, err := reportConformance(t, address, settings)
	if err == nil {
		require.Zero(t, suite.Failures+suite.Errors+suite.Skipped+suite.Disabled, "what the report counts as not passed")
	}
	return suite.Cases
}

// conformanceSuite is the suite's JUnit report.
type conformanceSuite struct {
	Failures int               `xml:"failures,attr"`
	Errors   int               `xml:"errors,attr"`
	Skipped  int               `xml:"skipped,attr"`
	Disabled int               `xml:"disabled,attr"`
	Cases    []conformanceCase `xml:"testcase"`
}

// reportConformance runs the suite, and returns its report, and how it ended.
func reportConformance(t *testing.T, address string, settings map[string]string) (*conformanceSuite, error) {
	t.Helper()
	box := tooltest.NewSandbox(t)
	results := box.Path("results")
	all := everything()
	all["OCI_REGISTRY"] = address
	all["OCI_RESULTS_DIR"] = results
	maps.Copy(all, settings)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		box.Env = append(box.Env, name+"="+all[name])
	}
	_, runErr := box.Try(t, "conformance") // a failed case is an error too: the report says which
	content, err := os.ReadFile(filepath.Join(results, "junit.xml"))
	require.NoError(t, err, "the suite must write its report; it said: %v", runErr)

	var report struct {
		Suites []*conformanceSuite `xml:"testsuite"`
	}
	require.NoError(t, xml.Unmarshal(content, &report))
	require.Len(t, report.Suites, 1, "the suites of the report")
	return report.Suites[0], runErr
}
