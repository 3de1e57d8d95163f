// Package dbtest knows how to give each test a real PostgreSQL database of its own.
package dbtest

import (
	"os"
	"testing"

	"github.com/missionopsai/foundry/internal/db"
)

// Main starts one throw-away cluster for the test process, runs the tests,
// and removes it. Call it from TestMain.
func Main(m *testing.M) { os.Exit(m.Run()) }

// New returns a fresh, migrated database that the test has to itself. It is
// closed and dropped when the test ends.
func New(t testing.TB) *db.DB { panic("not yet") }

// Config returns how to reach a fresh, migrated database.
func Config(t testing.TB) db.Config { panic("not yet") }

// Server is a cluster that one test stops, kills and starts again.
type Server struct{}

// NewServer starts a migrated cluster for one test.
func NewServer(t testing.TB) *Server { panic("not yet") }

// Config returns how to reach it; it stays the same across restarts.
func (s *Server) Config() db.Config { panic("not yet") }

// Cluster returns the running cluster, nil while it is stopped.
func (s *Server) Cluster() *db.Cluster { panic("not yet") }

// Stop shuts the server down.
func (s *Server) Stop() { panic("not yet") }

// Start starts it again.
func (s *Server) Start() { panic("not yet") }

// Kill kills the postmaster with SIGKILL. It comes back by itself.
func (s *Server) Kill() { panic("not yet") }
