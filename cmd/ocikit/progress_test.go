package main

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/ocikit/ocikit/gc"
)

func TestProgressIsALineOfItsOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var terminal bytes.Buffer
		p := newProgress(output{stderr: &terminal})
		p.tell(gc.AuditReport{})
		p.end()
		assert.Empty(t, terminal.String(), "who is no terminal is told nothing")

		p.terminal = &terminal
		p.tell(gc.AuditReport{Objects: 1})
		assert.Empty(t, terminal.String(), "it is told once in a second")
		time.Sleep(2 * time.Second)
		p.tell(gc.AuditReport{Objects: 10, Bytes: 2 << 20})
		time.Sleep(2 * time.Second)
		p.tell(gc.AuditReport{Objects: 20, Bytes: 2 << 20, Read: 4 << 20})
		p.end()
		p.end()
		assert.Regexp(t, `^\r10 objects, 2MiB, 5 objects/s +\r20 objects, 2MiB, 5 objects/s, 4MiB read, 1MiB/s +\n$`, terminal.String())
	})
}
