// Command ocikit is a container registry in one static binary, made of the packages of this module: docker, podman, helm and the
// others push to it and pull from it.
//
//	ocikit serve
//
// serves on http://localhost:5000 and keeps everything in ./ocikit-data. On PostgreSQL and S3 it is one of any number of replicas:
//
//	ocikit migrate up --database postgres://…
//	ocikit serve --database postgres://… --objects s3://BUCKET?region=…
//
// and what others have is pulled through and kept:
//
//	ocikit serve --upstream hub=https://registry.example.com
//
// See ocikit serve --help for the rest; every flag can be set in the environment as well, --listen as OCIKIT_LISTEN, and in the
// file of --config, which also has what no flag can say.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"
)

// commands is the command line.
type commands struct {
	Config string `type:"path" placeholder:"FILE" help:"Flags by their names, upstreams and routes (YAML). Flags and the environment override it."`

	Serve   serveCommand   `cmd:"" help:"Serve a registry."`
	Migrate migrateCommand `cmd:"" help:"Set up PostgreSQL for it, or bring it up to date."`
	GC      gcCommand      `cmd:"" name:"gc" help:"Collect what nothing refers to, until nothing is due. Servers do it themselves; it may run beside them."`
	Audit   auditCommand   `cmd:"" help:"Compare what is stored with the index, and repair what does not fit. Servers may go on."`

	Prefetch prefetchCommand `cmd:"" help:"Pull images through from upstreams before anybody needs them."`

	DeleteRepository deleteRepositoryCommand `cmd:"" help:"Delete a whole repository. Servers collect what was in it."`
	Version          versionCommand          `cmd:"" help:"Tell which version this is."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// run carries out a command line until it is done, or ctx ends, and returns the process's exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	exit := -1
	parser, err := newParser(ctx, &commands{}, output{stdout: stdout, stderr: stderr}, func(code int) { exit = code })
	if err != nil {
		fmt.Fprintln(stderr, "ocikit:", err)
		return 1
	}
	command, err := parser.Parse(args)
	if exit >= 0 {
		return exit // help was asked for
	}
	if err == nil {
		err = command.Run()
	}
	if err != nil {
		fmt.Fprintln(stderr, "ocikit:", err)
		return 1
	}
	return 0
}

// newParser returns what reads a command line into c. exit is called when help was asked for.
func newParser(ctx context.Context, c *commands, out output, exit func(code int)) (*kong.Kong, error) {
	file := &configFile{}
	return kong.New(c,
		kong.Name("ocikit"),
		kong.Description("A container registry. Flags can be set in the environment as well: --listen as OCIKIT_LISTEN."),
		kong.DefaultEnvars("OCIKIT"),
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 120}),
		kong.Writers(out.stdout, out.stderr),
		kong.Exit(exit),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(out, file),
		kong.Resolvers(file),
	)
}

// output is where a command writes.
type output struct{ stdout, stderr io.Writer }

type versionCommand struct{}

// Run prints the version that the binary was built from.
func (versionCommand) Run(out output) error {
	version, revision := "(devel)", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		if info.Main.Version != "" {
			version = info.Main.Version
		}
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				revision = " " + setting.Value
			}
		}
	}
	_, err := fmt.Fprintf(out.stdout, "ocikit %s%s %s %s/%s\n", version, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
