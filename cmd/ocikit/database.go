package main

import (
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Kinds of stores: what stands before the colon.
const (
	kindMemory   = "memory"
	kindSQLite   = "sqlite"
	kindPostgres = "postgres"
	kindFile     = "file"
	kindS3       = "s3"
)

// database is what --database means.
type database struct {
	kind string
	name string // for people: without a password

	path string // of SQLite's file

	pool      *pgxpool.Config // of PostgreSQL
	schema    string
	modeIsSet bool // how statements are sent
}

// What holds for PostgreSQL's connections unless the URL says otherwise: as many as keep a server's processors busy while leaving
// room for more replicas in PostgreSQL's own default of 100, and an answer within seconds when its host is gone.
const (
	poolSize       = 16
	connectTimeout = 5 * time.Second
	pingTimeout    = 3 * time.Second
)

const wantDatabase = "want sqlite:PATH, memory: or postgres://USER@HOST:PORT/NAME"

// parseDatabase reads the URL of an index. Its errors never contain a password.
func parseDatabase(text string) (database, error) {
	kind, rest, _ := strings.Cut(text, ":")
	switch {
	case text == memoryURL:
		return database{kind: kindMemory, name: text}, nil
	case kind == kindSQLite && rest != "":
		return database{kind: kindSQLite, name: text, path: rest}, nil
	case (kind == kindPostgres || kind == "postgresql") && strings.HasPrefix(rest, "//"):
		return parsePostgres(text)
	}
	return database{}, errors.New(wantDatabase)
}

func parsePostgres(text string) (database, error) {
	address, schema, err := cutSchema(text)
	if err != nil {
		return database{}, err
	}
	config, err := pgxpool.ParseConfig(address)
	if err != nil {
		return database{}, errors.New(parseProblem(err))
	}
	if !strings.Contains(address, "pool_max_conns=") {
		config.MaxConns = poolSize
	}
	if config.PingTimeout == 0 {
		config.PingTimeout = pingTimeout
	}
	connection := config.ConnConfig
	if connection.ConnectTimeout == 0 {
		connection.ConnectTimeout = connectTimeout
	}
	if connection.RuntimeParams["application_name"] == "" {
		connection.RuntimeParams["application_name"] = "ocikit"
	}
	return database{
		kind: kindPostgres, name: postgresName(config, schema), pool: config, schema: schema,
		modeIsSet: strings.Contains(address, "default_query_exec_mode="),
	}, nil
}

// cutSchema takes our own key out of a URL, since pgx sends what it does not know to the server. The rest stays as it is written.
func cutSchema(text string) (rest, schema string, err error) {
	host := strings.Index(text, "//") + len("//")
	if i := strings.IndexAny(text[host:], "@/"); i >= 0 && text[host+i] == '@' {
		host += i // a password may hold a question mark
	}
	question := strings.Index(text[host:], "?")
	if question < 0 {
		return text, "", nil
	}
	address, query := text[:host+question], text[host+question+1:]
	var others []string
	for pair := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if key != "schema" {
			others = append(others, pair)
			continue
		}
		if schema, err = url.QueryUnescape(value); err != nil || schema == "" || len(schema) > maxIdentifier {
			return "", "", errors.New("schema= wants the name of a schema, such as schema=registry")
		}
	}
	if len(others) > 0 {
		address += "?" + strings.Join(others, "&")
	}
	return address, schema, nil
}

// maxIdentifier is how many bytes of a name PostgreSQL looks at.
const maxIdentifier = 63

// parseProblem says what pgx did not understand. It leaves the URL out, in which nobody knows where the password is.
func parseProblem(err error) string {
	text := err.Error()
	if end := strings.LastIndex(text, "`: "); end >= 0 {
		text = text[end+len("`: "):]
	}
	if strings.Contains(text, "parse as") || strings.Contains(text, "invalid port") {
		return wantDatabase + ". Special characters of a password are written as %XX, or the password is left to PGPASSWORD"
	}
	return text
}

// postgresName is what people are shown: which database this is, and nothing of how one gets in.
func postgresName(config *pgxpool.Config, schema string) string {
	name := "postgres://" + hostPort(config.ConnConfig) + "/" + url.PathEscape(config.ConnConfig.Database)
	if schema != "" {
		name += "?schema=" + url.QueryEscape(schema)
	}
	return name
}

func hostPort(c *pgx.ConnConfig) string {
	if strings.HasPrefix(c.Host, "/") {
		return c.Host
	}
	return net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port)))
}
