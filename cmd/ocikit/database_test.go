package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDatabaseURLIsPgxsButForTheSchema(t *testing.T) {
	t.Parallel()
	got, err := parseDatabase("postgres://alice:hunter?2@db.example.com:5433/registry?sslmode=require&schema=team%2Dx&application_name=mine")
	require.NoError(t, err)
	assert.Equal(t, "team-x", got.schema)
	assert.Equal(t, "postgres://db.example.com:5433/registry?schema=team-x", got.name, "what people see has no password")
	connection := got.pool.ConnConfig
	assert.Equal(t, "hunter?2", connection.Password)
	assert.Equal(t, map[string]string{"application_name": "mine"}, connection.RuntimeParams, "the schema is not sent to the server")
	assert.Equal(t, connectTimeout, connection.ConnectTimeout)
	assert.EqualValues(t, poolSize, got.pool.MaxConns)

	got, err = parseDatabase("postgresql://h/x?pool_max_conns=3&connect_timeout=30&pool_ping_timeout=9s&default_query_exec_mode=exec")
	require.NoError(t, err)
	assert.EqualValues(t, 3, got.pool.MaxConns)
	assert.Equal(t, "30s", got.pool.ConnConfig.ConnectTimeout.String())
	assert.Equal(t, "9s", got.pool.PingTimeout.String())
	assert.True(t, got.modeIsSet)
}
