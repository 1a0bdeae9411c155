package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
)

// connection is one connection to the file, with the statements that were prepared on it, by their text. Only one goroutine
// uses it at a time. Its statements take microseconds and wait for nobody, so they are not tied to a caller's context,
// which is tested before a call gets its turn; that saves a goroutine and a timer a statement.
type connection struct {
	conn       *sql.Conn
	statements map[string]*sql.Stmt
	before     func(query string) // is called ahead of each statement, by tests only; nil: nothing is
}

// connect takes a connection out of db for good.
func connect(ctx context.Context, db *sql.DB) (*connection, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &connection{conn: conn, statements: make(map[string]*sql.Stmt)}, nil
}

// close ends the statements and gives the connection back, for its pool to close.
func (c *connection) close() error {
	var errs []error
	for _, statement := range c.statements {
		errs = append(errs, statement.Close())
	}
	return errors.Join(append(errs, c.conn.Close())...)
}

// statement returns the statement, which is prepared when it is first used.
func (c *connection) statement(query string) (*sql.Stmt, error) {
	if c.before != nil {
		c.before(query)
	}
	if statement, ok := c.statements[query]; ok {
		return statement, nil
	}
	statement, err := c.conn.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	c.statements[query] = statement
	return statement, nil
}

// exec runs a statement without rows and returns how many rows it changed.
func (c *connection) exec(query string, args ...any) (int64, error) {
	statement, err := c.statement(query)
	if err != nil {
		return 0, err
	}
	result, err := statement.Exec(args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// row scans a query's only row into dest, and reports whether there was one.
func (c *connection) row(query string, args []any, dest ...any) (bool, error) {
	statement, err := c.statement(query)
	if err != nil {
		return false, err
	}
	err = statement.QueryRow(args...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// rows reads all rows of a query with scan, which gets each row's Scan.
func rows[T any](c *connection, query string, args []any, scan func(scan func(...any) error) (T, error)) ([]T, error) {
	statement, err := c.statement(query)
	if err != nil {
		return nil, err
	}
	cursor, err := statement.Query(args...)
	if err != nil {
		return nil, err
	}
	defer cursor.Close()
	var all []T
	for cursor.Next() {
		one, err := scan(cursor.Scan)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, cursor.Err()
}

// values reads all rows of a query that has one column.
func values[T any](c *connection, query string, args ...any) ([]T, error) {
	return rows(c, query, args, func(scan func(...any) error) (value T, err error) {
		err = scan(&value)
		return value, err
	})
}

// list is an argument for SQLite's json_each: so one statement works on any number of values.
func list[T ~string](values []T) string {
	if len(values) == 0 {
		return "[]"
	}
	text, _ := json.Marshal(values) // strings always can
	return string(text)
}
