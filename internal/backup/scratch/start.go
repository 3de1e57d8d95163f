package scratch

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/problem"
)

// Options say what is started.
type Options struct {
	Dir     string // of a Place, or wherever data was restored below
	BinDir  string // empty: the server found on this machine
	User    string // who runs the server when this process is root; empty: as for the private cluster
	Log     *slog.Logger
	Durable bool          // the copy is going to be the database; see db.RestoredOptions.Live
	Replay  time.Duration // longest wait until it answers; 0: 4 hours
	Pages   *Pages        // reads the pages of Dir/data already; nil: they are read when they are proven
}

// Server is a restored copy that answers.
type Server struct {
	cluster *db.Cluster
	db      *db.DB
	files   *Pages
	Took    time.Duration // from the start of the server until it answered: replay is in it
}

// alone is for a server that answers nobody else: what counts its rows may use
// every processor.
var alone = map[string]string{"max_parallel_workers_per_gather": "2", "max_worker_processes": "4"}

// longestReplay bounds a replay that nobody bounded.
const longestReplay = 4 * time.Hour

// Start starts a restored copy and waits until it has replayed its log. A log
// that ends before the moment that was asked for is an error of code
// "copy-short": PostgreSQL then refuses to open the copy.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Replay <= 0 {
		o.Replay = longestReplay
	}
	began := time.Now()
	starting, cancel := context.WithTimeoutCause(ctx, o.Replay, errSlow)
	defer cancel()
	cluster, err := db.StartRestored(starting, db.RestoredOptions{Dir: o.Dir, BinDir: o.BinDir, User: o.User, Log: o.Log, Live: o.Durable, Settings: alone})
	if err != nil {
		return nil, explain(err)
	}
	s := &Server{cluster: cluster, files: o.Pages, Took: time.Since(began)}
	if s.files == nil {
		s.files = newPages(cluster.DataDir())
	}
	if s.db, err = db.Open(ctx, cluster.Config(), o.Log); err == nil {
		err = s.db.WaitHealthy(starting)
	}
	if err != nil {
		_ = s.Stop(ctx)
		return nil, err
	}
	return s, nil
}

var errSlow = problem.New(problem.Timeout, "copy-slow", "The copy did not finish replaying its log in time.").
	WithMend("Take full backups more often: the replay is as long as the log since the last one.")

// DB reaches the copy.
func (s *Server) DB() *db.DB { return s.db }

// Stop shuts the copy down. Its files stay.
func (s *Server) Stop(ctx context.Context) error {
	if s.db != nil {
		s.db.Close()
		s.db = nil
	}
	if s.cluster == nil {
		return nil
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := s.cluster.Stop(stop); err != nil {
		return fmt.Errorf("stopping the restored copy: %w", err)
	}
	return nil
}
