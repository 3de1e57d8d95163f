package db

import (
	"context"
	"log/slog"
)

// ClusterOptions says where the private cluster lives and who runs it.
type ClusterOptions struct {
	Dir       string            // <data-dir>/postgres: holds data, log, etc and run
	SocketDir string            // empty: Dir/run, or a short directory elsewhere if that path is too long
	BinDir    string            // empty: the newest server found on this machine that is at least MinimumMajor
	User      string            // who runs the server when this process is root; empty: postgres, else nobody
	Log       *slog.Logger      // nil: silent
	Settings  map[string]string // server settings over the defaults
	Superuser bool              // lets the bootstrap superuser sign in too: for throw-away clusters of tests
}

// Cluster is a private PostgreSQL server, started and supervised by this process.
type Cluster struct{}

// StartCluster makes the cluster if there is none, starts its server and waits
// until it answers.
func StartCluster(ctx context.Context, o ClusterOptions) (*Cluster, error) { panic("not yet") }

// Config returns how to reach the cluster.
func (c *Cluster) Config() Config { panic("not yet") }

// Stop shuts the server down.
func (c *Cluster) Stop(ctx context.Context) error { panic("not yet") }

// PID returns the process id of the server, 0 while it is down.
func (c *Cluster) PID() int { panic("not yet") }

// Restarts returns how often the server was started again after it died.
func (c *Cluster) Restarts() int { panic("not yet") }
