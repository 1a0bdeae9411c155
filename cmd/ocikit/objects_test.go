package main

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store/s3"
)

func TestObjectsURLIsReadWhole(t *testing.T) {
	t.Parallel()
	const text = "s3://registry?endpoint=http://localhost:9000/&region=eu&path_style=false&prefix=a/b&part_size=32MiB&equal_parts=true" +
		"&checksum=unsigned&sse=aws:kms&kms_key=key&storage_class=STANDARD_IA"
	got, errs := parseObjects(text)
	require.Empty(t, errs)
	assert.Equal(t, objects{
		kind: kindS3, name: text, bucket: "registry", endpoint: "http://localhost:9000", region: "eu",
		options: s3.Options{
			Prefix: "a/b", PartSize: 32 << 20, EqualParts: true, Checksum: s3.UnsignedPayload,
			ServerSideEncryption: types.ServerSideEncryptionAwsKms, KMSKeyID: "key", StorageClass: types.StorageClassStandardIa,
		},
	}, got)
}

func TestBucketIsFoundByPathElsewhereThanOnAWS(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"s3://registry?region=eu":                                                false,
		"s3://registry?endpoint=https://s3.example.com":                          true,
		"s3://registry?path_style=true":                                          true,
		"s3://registry?path_style=false&endpoint=https://s3.example.com":         false,
		"s3://registry?endpoint=https://s3.example.com&path_style=0&region=auto": false,
	} {
		got, errs := parseObjects(text)
		require.Empty(t, errs, text)
		assert.Equal(t, want, got.pathStyle, text)
	}
}
