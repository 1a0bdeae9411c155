module github.com/ocikit/ocikit

go 1.26
