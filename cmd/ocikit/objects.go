package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/ocikit/ocikit/store/s3"
)

// objects is what --objects means.
type objects struct {
	kind string
	name string // for people: without credentials

	dir string // of files

	bucket    string // of S3
	endpoint  string // "": AWS
	region    string // "": as AWS's environment has it
	pathStyle bool
	options   s3.Options
}

const wantObjects = "want file:DIR, memory: or s3://BUCKET"

// parseObjects reads the URL of objects, and returns everything that is wrong with it. Its errors contain no credentials.
func parseObjects(text string) (objects, []error) {
	kind, rest, _ := strings.Cut(text, ":")
	switch {
	case text == memoryURL:
		return objects{kind: kindMemory, name: text}, nil
	case kind == kindFile && rest != "":
		return objects{kind: kindFile, name: text, dir: rest}, nil
	case kind == kindS3 && strings.HasPrefix(rest, "//"):
		return parseS3(text)
	}
	return objects{}, []error{errors.New(wantObjects)}
}

func parseS3(text string) (objects, []error) {
	address, query, _ := strings.Cut(strings.TrimPrefix(text, "s3://"), "?")
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	bucket, path, _ := strings.Cut(address, "/")
	switch {
	case strings.Contains(address, "@"):
		return objects{}, []error{fmt.Errorf("want s3://BUCKET: %s", credentialsFix)}
	case bucket == "":
		wrong("want s3://BUCKET")
	case path != "":
		wrong("want s3://%s?prefix=%s", bucket, path)
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		wrong("what follows the question mark is not like key=value&key=value, with %%XX for what is special")
	}
	o := objects{kind: kindS3, name: text, bucket: bucket, endpoint: environmentEndpoint()}
	o.pathStyle = o.endpoint != "" || values.Get("endpoint") != "" // servers other than AWS's have no name for each bucket, as a rule
	for _, key := range slices.Sorted(maps.Keys(values)) {
		set, ok := objectsKeys[key]
		switch {
		case !ok && isCredential(key):
			wrong("%s= is unknown: %s", key, credentialsFix)
		case !ok:
			wrong("%s= is unknown: the keys are %s", key, strings.Join(slices.Sorted(maps.Keys(objectsKeys)), ", "))
		case len(values[key]) > 1:
			wrong("%s= is there twice", key)
		default:
			if err := set(&o, values.Get(key)); err != nil {
				wrong("%s=: %w", key, err)
			}
		}
	}
	if len(errs) == 0 {
		if err := checkOptions(o.options); err != nil { // that do not go together
			errs = append(errs, err)
		}
	}
	return o, errs
}

// environmentEndpoint is where AWS's tools, too, look for S3, if the URL does not say.
func environmentEndpoint() string {
	return cmp.Or(os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ENDPOINT_URL"))
}

// checkOptions asks the store what it does not take, before any client is there.
func checkOptions(options s3.Options) error {
	_, err := s3.New(awss3.New(awss3.Options{}), "bucket", &options)
	if err != nil {
		return errors.New(strings.TrimPrefix(oneLine(err), "objects on s3: "))
	}
	return nil
}

const credentialsFix = "credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or what else AWS's tools look at"

func isCredential(key string) bool {
	key = strings.ToLower(key)
	return strings.Contains(key, "key") || strings.Contains(key, "secret") || strings.Contains(key, "token") || strings.Contains(key, "password")
}

// objectsKeys are what may follow the question mark.
var objectsKeys = map[string]func(o *objects, value string) error{
	"endpoint": func(o *objects, value string) error {
		u, err := url.Parse(value)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return errors.New("wants the URL of the S3 server, such as https://s3.example.com or http://localhost:9000")
		}
		o.endpoint = strings.TrimRight(value, "/")
		return nil
	},
	"region": func(o *objects, value string) error {
		o.region = value
		return nil
	},
	"path_style":  func(o *objects, value string) error { return parseBool(value, &o.pathStyle) },
	"equal_parts": func(o *objects, value string) error { return parseBool(value, &o.options.EqualParts) },
	"prefix": func(o *objects, value string) error {
		o.options.Prefix = value
		return checkOptions(s3.Options{Prefix: value})
	},
	"part_size": func(o *objects, value string) error {
		var n size
		if err := n.UnmarshalText([]byte(value)); err != nil {
			return errors.New("wants a size such as 64MiB")
		}
		o.options.PartSize = int64(n)
		return checkOptions(s3.Options{PartSize: int64(n)})
	},
	"checksum": func(o *objects, value string) error {
		o.options.Checksum = s3.Checksum(value)
		return checkOptions(s3.Options{Checksum: s3.Checksum(value)})
	},
	"sse": func(o *objects, value string) error {
		o.options.ServerSideEncryption = types.ServerSideEncryption(value)
		return checkOptions(s3.Options{ServerSideEncryption: o.options.ServerSideEncryption})
	},
	"kms_key": func(o *objects, value string) error {
		o.options.KMSKeyID = value
		return nil
	},
	"storage_class": func(o *objects, value string) error {
		o.options.StorageClass = types.StorageClass(value)
		return checkOptions(s3.Options{StorageClass: o.options.StorageClass})
	},
}

func parseBool(value string, into *bool) error {
	parsed, err := strconv.ParseBool(value)
	if err != nil {
		return errors.New("wants true or false")
	}
	*into = parsed
	return nil
}
