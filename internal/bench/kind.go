package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// distributionConfiguration is for distribution v3 and for the v2 that Debian packages: a file system, the cache of
// descriptors that their own examples switch on, and no log line a request.
const distributionConfiguration = `version: 0.1
log:
  level: error
  accesslog:
    disabled: true
storage:
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: {dir}
http:
  addr: 127.0.0.1:{port}
`

// distributionOnS3 is the same on a bucket, whose bytes it passes on itself, as ocikit does.
const distributionOnS3 = `version: 0.1
log:
  level: error
  accesslog:
    disabled: true
storage:
  cache:
    blobdescriptor: inmemory
  redirect:
    disable: true
  s3:
    accesskey: {key}
    secretkey: {secret}
    region: ` + region + `
    regionendpoint: {s3}
    forcepathstyle: true
    secure: false
    bucket: {bucket}
    rootdirectory: /{prefix}
http:
  addr: 127.0.0.1:{port}
`

// bareKind is the bucket itself.
const bareKind = "bare-s3"

// kinds are the registries that the program knows how to start, each as its authors ship it.
func kinds() map[string]launch {
	crane := []string{"crane", "registry", "serve", "--address", "127.0.0.1:{port}"}
	ocikit := []string{"ocikit", "serve", "--listen", "127.0.0.1:{port}", "--data", "{dir}"}
	quiet := []string{"OCIKIT_LOG_LEVEL=warn"}
	return map[string]launch{
		"distribution": {
			arguments:     []string{"registry", "serve", "{config}"},
			environment:   []string{"OTEL_TRACES_EXPORTER=none"},
			configuration: distributionConfiguration,
		},
		"docker-registry": {
			arguments:     []string{"docker-registry", "serve", "{config}"},
			configuration: distributionConfiguration,
		},
		"crane":         {arguments: crane, silent: true},
		"crane-disk":    {arguments: append(slices.Clone(crane), "--disk", "{dir}"), silent: true},
		"ocikit":        {arguments: ocikit, environment: quiet},
		"ocikit-nosync": {arguments: append(slices.Clone(ocikit), "--sync=false"), environment: quiet},
		"ocikit-memory": {
			arguments:   []string{"ocikit", "serve", "--listen", "127.0.0.1:{port}", "--database", "memory:", "--objects", "memory:"},
			environment: quiet,
		},
		"distribution-s3": {
			arguments:     []string{"registry", "serve", "{config}"},
			environment:   []string{"OTEL_TRACES_EXPORTER=none"},
			configuration: distributionOnS3,
			needs:         []string{"s3"},
		},
		"ocikit-s3": {
			first: []string{"migrate", "up", "--database", "{postgres}"},
			arguments: []string{
				"ocikit", "serve", "--listen", "127.0.0.1:{port}", "--database", "{postgres}",
				"--objects", "s3://{bucket}?endpoint={s3}&region=" + region + "&path_style=true&prefix={prefix}/",
			},
			environment: append([]string{"AWS_ACCESS_KEY_ID={key}", "AWS_SECRET_ACCESS_KEY={secret}"}, quiet...),
			needs:       []string{"s3", "postgres"},
		},
	}
}

// kindNames are the names that --peer takes.
func kindNames() string {
	names := []string{bareKind}
	for name := range kinds() {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// kind tells how to start a registry that the program knows, its binary taken from one of the folders or from PATH.
func kind(name string, folders []string, backends *backends) (launch, error) {
	known, found := kinds()[name]
	if !found {
		return launch{}, fmt.Errorf("peer %q is not known: expected one of %s", name, kindNames())
	}
	known.name, known.backends = name, backends
	if err := backends.has(known.needs...); err != nil {
		return launch{}, fmt.Errorf("peer %s: %w", name, err)
	}
	binary, err := find(known.arguments[0], folders)
	if err != nil {
		return launch{}, fmt.Errorf("peer %s: %w", name, err)
	}
	known.arguments = append([]string{binary}, known.arguments[1:]...)
	return known, nil
}

func find(binary string, folders []string) (string, error) {
	for _, folder := range folders {
		if path, err := exec.LookPath(filepath.Join(folder, binary)); err == nil {
			return filepath.Abs(path)
		}
	}
	return exec.LookPath(binary)
}

// command tells how to start name=command, whose command a shell splits into words and then becomes.
func command(specification string) (launch, error) {
	name, words, found := strings.Cut(specification, "=")
	if !found || name == "" || words == "" {
		return launch{}, fmt.Errorf("start %q: expected name=command", specification)
	}
	return launch{name: name, arguments: []string{"/bin/sh", "-c", "exec " + words}}, nil
}
