// Package cost holds what each operation of the API costs on S3 and PostgreSQL: the requests to the bucket, and the round trips to
// the database.
//
// The idea: these counts decide how a registry feels on real networks, where each of them is a millisecond or thirty, and what a
// bucket's bill says; and they grow unseen, one harmless query at a time. So they are counted on real servers, once each, with
// warm connections, written down in README.md, and whoever changes one has to change that table in the same commit:
//
//	go test ./internal/cost -update
//
// The package has tests only.
package cost
