package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/filesystem"
	"github.com/ocikit/ocikit/store/memory"
	"github.com/ocikit/ocikit/store/sqlite"
)

const memoryURL = "memory:"

// stores is an index and objects that were opened.
type stores struct {
	meta        store.Metadata
	objects     store.Objects
	database    string // for people
	objectsName string
	volatile    bool
	closers     []io.Closer
}

// databaseURL and objectsURL are the flags with their defaults, which are below the data folder; an index in memory
// goes with objects in memory.
func (c *serveCommand) databaseURL() string {
	if c.Database != "" {
		return c.Database
	}
	return "sqlite:" + filepath.Join(c.Data, "index.sqlite")
}

func (c *serveCommand) objectsURL() string {
	switch {
	case c.Objects != "":
		return c.Objects
	case c.Database == memoryURL:
		return memoryURL
	}
	return "file:" + filepath.Join(c.Data, "objects")
}

// checkStores says what is wrong with the URLs, alone and together.
func (c *serveCommand) checkStores() error {
	var errs []error
	database, objects := c.databaseURL(), c.objectsURL()
	if path, ok := strings.CutPrefix(database, "sqlite:"); database != memoryURL && (!ok || path == "") {
		errs = append(errs, fmt.Errorf("--database: %q is neither memory: nor sqlite:PATH", database))
	}
	if path, ok := strings.CutPrefix(objects, "file:"); objects != memoryURL && (!ok || path == "") {
		errs = append(errs, fmt.Errorf("--objects: %q is neither memory: nor file:DIR", objects))
	}
	switch {
	case len(errs) > 0:
	case objects == memoryURL && database != memoryURL:
		errs = append(errs, errors.New("--objects: the index would outlive objects in memory: set --database memory: too, or --objects file:DIR"))
	case objects != memoryURL && database == memoryURL:
		errs = append(errs, errors.New("--database: objects on disk would outlive an index in memory, and nobody would know them: set --objects memory: too, or --database sqlite:PATH"))
	}
	return errors.Join(errs...)
}

// openStores opens what the flags name. An error names the flag to look at.
func (c *serveCommand) openStores() (s stores, err error) {
	defer func() {
		if err != nil {
			s.close(nil)
		}
	}()
	s.database, s.objectsName = c.databaseURL(), c.objectsURL()
	if s.database == memoryURL {
		s.meta, s.objects, s.volatile = memory.NewMetadata(nil), memory.NewObjects(nil), true
		return s, nil
	}
	path := strings.TrimPrefix(s.database, "sqlite:")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return s, fmt.Errorf("%s: create the folder of the database: %w", c.blame("database", c.Database), err)
	}
	meta, err := sqlite.Open(path, &sqlite.Options{NoSync: !c.Sync})
	if err != nil {
		return s, fmt.Errorf("%s: %w", c.blame("database", c.Database), err)
	}
	s.meta, s.closers = meta, append(s.closers, meta)
	s.objects, err = filesystem.New(strings.TrimPrefix(s.objectsName, "file:"), &filesystem.Options{NoSync: !c.Sync})
	if err != nil {
		return s, fmt.Errorf("%s: %w", c.blame("objects", c.Objects), err)
	}
	return s, nil
}

// blame names the flag that a path came from.
func (c *serveCommand) blame(flag, value string) string {
	if value == "" {
		flag = "data"
	}
	return "--" + flag
}

func (s *stores) close(log *slog.Logger) {
	for _, closer := range s.closers {
		if err := closer.Close(); err != nil && log != nil {
			log.Error("close the database", "error", err)
		}
	}
}
