package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Explain returns the plan of every statement that was run so far, by its text, one step a line.
func (m *Metadata) Explain(ctx context.Context) (map[string][]string, error) {
	c, err := m.reader.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { m.reader.free <- c }()
	all := map[string]bool{}
	for query := range c.statements {
		all[query] = true
	}
	if err := change(ctx, m, "statements", func(tx *transaction) error {
		for query := range tx.statements {
			all[query] = true
		}
		return nil
	}); err != nil {
		return nil, err
	}
	for range cap(m.reader.free) - 1 {
		other := <-m.reader.free
		for query := range other.statements {
			all[query] = true
		}
		m.reader.free <- other
	}
	plans := map[string][]string{}
	for query := range all {
		switch word, _, _ := strings.Cut(strings.TrimSpace(query), " "); word {
		case "begin", "commit", "savepoint", "release", "rollback", "pragma":
			continue // they have no plan
		}
		plans[query] = nil
		rows, err := c.conn.QueryContext(ctx, "explain query plan "+query, make([]any, 17)...)
		if err != nil {
			return nil, fmt.Errorf("explain %s: %w", query, err)
		}
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				return nil, err
			}
			plans[query] = append(plans[query], detail)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return nil, err
		}
	}
	return plans, nil
}

// Pragma returns a setting of the connection that writes.
func (m *Metadata) Pragma(ctx context.Context, name string) (string, error) {
	return write(ctx, m, "pragma", func(tx *transaction) (value string, err error) {
		_, err = tx.row("pragma "+name, nil, &value)
		return value, err
	})
}

// Before has before called ahead of each statement from now on, on whatever goroutine runs it. Nothing else may be under way.
func (m *Metadata) Before(ctx context.Context, before func(query string)) error {
	var connections []*connection
	for range cap(m.reader.free) {
		c, err := m.reader.acquire(ctx)
		if err != nil {
			return err
		}
		c.before = before
		connections = append(connections, c)
	}
	for _, c := range connections {
		m.reader.free <- c
	}
	return change(ctx, m, "before", func(tx *transaction) error {
		tx.before = before
		return nil
	})
}
