package faulttest

import (
	"net/http"
	"strings"
)

// Operation is one of S3's, by the name that its documentation has.
type Operation string

// The operations that OperationOf tells apart.
const (
	PutObject               Operation = "PutObject"
	CopyObject              Operation = "CopyObject"
	GetObject               Operation = "GetObject"
	HeadObject              Operation = "HeadObject"
	DeleteObject            Operation = "DeleteObject"
	DeleteObjects           Operation = "DeleteObjects"
	CreateMultipartUpload   Operation = "CreateMultipartUpload"
	UploadPart              Operation = "UploadPart"
	UploadPartCopy          Operation = "UploadPartCopy"
	CompleteMultipartUpload Operation = "CompleteMultipartUpload"
	AbortMultipartUpload    Operation = "AbortMultipartUpload"
	ListParts               Operation = "ListParts"
	ListMultipartUploads    Operation = "ListMultipartUploads"
	ListObjects             Operation = "ListObjects"
	ListObjectsV2           Operation = "ListObjectsV2"
	ListBuckets             Operation = "ListBuckets"
	HeadBucket              Operation = "HeadBucket"
	CreateBucket            Operation = "CreateBucket"
	DeleteBucket            Operation = "DeleteBucket"
	Other                   Operation = "Other"
)

// OperationOf returns what a request asks of S3, if the bucket is in its path.
func OperationOf(r *http.Request) Operation {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	asked := request{query: r.URL.Query(), copies: r.Header.Get("X-Amz-Copy-Source") != ""}
	switch {
	case bucket == "" && r.Method == http.MethodGet:
		return ListBuckets
	case bucket == "":
		return Other
	case key == "":
		return asked.ofBucket(r.Method)
	default:
		return asked.ofObject(r.Method)
	}
}

type request struct {
	query  map[string][]string
	copies bool
}

func (r request) has(name string) bool {
	_, found := r.query[name]
	return found
}

func (r request) ofBucket(method string) Operation {
	switch {
	case method == http.MethodPost && r.has("delete"):
		return DeleteObjects
	case method == http.MethodGet && r.has("uploads"):
		return ListMultipartUploads
	case method == http.MethodGet && r.has("list-type"):
		return ListObjectsV2
	case method == http.MethodGet && (len(r.query) == 0 || r.has("prefix") || r.has("marker") || r.has("delimiter")):
		return ListObjects
	case method == http.MethodHead:
		return HeadBucket
	case method == http.MethodPut && len(r.query) == 0:
		return CreateBucket
	case method == http.MethodDelete && len(r.query) == 0:
		return DeleteBucket
	default:
		return Other
	}
}

func (r request) ofObject(method string) Operation {
	upload := r.has("uploadId")
	switch {
	case method == http.MethodPost && r.has("uploads"):
		return CreateMultipartUpload
	case method == http.MethodPost && upload:
		return CompleteMultipartUpload
	case method == http.MethodDelete && upload:
		return AbortMultipartUpload
	case method == http.MethodDelete:
		return DeleteObject
	case method == http.MethodGet && upload:
		return ListParts
	case method == http.MethodGet:
		return GetObject
	case method == http.MethodHead:
		return HeadObject
	case method == http.MethodPut && upload && r.copies:
		return UploadPartCopy
	case method == http.MethodPut && upload:
		return UploadPart
	case method == http.MethodPut && r.copies:
		return CopyObject
	case method == http.MethodPut:
		return PutObject
	default:
		return Other
	}
}
