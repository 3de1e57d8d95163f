package db_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/problem"
)

// Some tests need a process of their own: to kill it, or to be another user.
// They run this test binary again, with the options of a cluster to start.
const helperVariable = "FOUNDRY_DB_TEST_CLUSTER"

func TestMain(m *testing.M) {
	if o := os.Getenv(helperVariable); o != "" {
		startAndWait(o)
	}
	if data := os.Getenv(dogVariable); data != "" {
		watchAndExit(data)
	}
	dbtest.Main(m)
}

// startAndWait starts a cluster, prints the server's process id, or the code
// and sentence of the problem, and waits to be killed.
func startAndWait(encoded string) {
	var o struct{ Dir, SocketDir string }
	if err := json.Unmarshal([]byte(encoded), &o); err != nil {
		panic(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := db.StartCluster(ctx, db.ClusterOptions{Dir: o.Dir, SocketDir: o.SocketDir, Settings: dbtest.Hasty})
	if err != nil {
		p := problem.From(err)
		fmt.Println("problem", p.Code, p)
		os.Exit(1)
	}
	fmt.Println("ready", c.PID())
	select {}
}
