// Command cluster is a registry as it runs on several machines, on one: PostgreSQL, an S3 server, two replicas that know nothing of
// each other, and a proxy that sends each request to the next replica, whatever it belongs to. It pushes an image through the
// proxy, the largest layer in pieces, pulls it back, and tells which replica did what.
//
//	go run ./examples/cluster
//	go run ./examples/cluster -stay    # and goes on until Ctrl-C: docker push localhost:PORT/team/app
//
// It needs PostgreSQL (apt-get install postgresql), and minio or versitygw in PATH. replica.go is what a program of your own has of this.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	stay := flag.Bool("stay", false, "go on after the push, until Ctrl-C")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout, *stay)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run starts everything, pushes and pulls, and ends everything.
func run(ctx context.Context, out io.Writer, stay bool) (err error) {
	found, err := findPrograms()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "cluster")
	if err != nil {
		return err
	}
	var c cluster
	defer func() { err = errors.Join(err, c.stop(), os.RemoveAll(dir)) }()

	database, err := c.startPostgres(ctx, found, dir)
	if err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	endpoint, err := c.startS3(ctx, found, dir)
	if err != nil {
		return fmt.Errorf("start the S3 server: %w", err)
	}
	fmt.Fprintf(out, "PostgreSQL  %s\nS3          %s\n", database, endpoint)

	if err := setUp(ctx, database, endpoint); err != nil {
		return err
	}
	var replicas []string
	for range 2 {
		handler, closeReplica, err := newReplica(ctx, database, endpoint)
		if err != nil {
			return err
		}
		c.atStop(closeReplica)
		url, err := c.serve(handler)
		if err != nil {
			return err
		}
		replicas = append(replicas, url)
		fmt.Fprintf(out, "replica %d   %s\n", len(replicas), url)
	}
	proxy, err := newProxy(replicas, out)
	if err != nil {
		return err
	}
	url, err := c.serve(proxy)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "proxy       %s\n\n", url)

	if err := pushAndPull(ctx, url, out); err != nil {
		return err
	}
	if stay {
		fmt.Fprintf(out, "\n%s serves until Ctrl-C\n", url)
		<-ctx.Done()
	}
	return nil
}
