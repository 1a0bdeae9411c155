// Package imagetest makes real container images for tests, without downloading
// any.
//
// The idea: an image is a tree of content under digests, and a Tree holds just
// that, in memory. NewImage builds one from a static Go program and generated
// files: several layers, of which one is larger than 20 MB (so that clients
// upload it as they upload large layers), and a configuration that any engine
// runs. What it prints when it runs depends on every layer, and is known
// beforehand: see Image.Output. NewIndex joins images of several platforms.
//
// A Tree can be written as what clients read: an OCI layout (skopeo, crane,
// oras, regctl, podman), an archive of one (containerd), or the folder that a
// Dockerfile copies from (docker, buildah). Built twice from the same options, a tree has the
// same digests.
package imagetest
