package member_test

import (
	"testing"

	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
)

// A node may start for the first time while another is joining: etcd compares
// the members that the node was told with those that there are, and between
// the two the other one came.
func TestANodeStartsWhileAnotherJoins(t *testing.T) {
	t.Parallel()
	f := membertest.Start(t, 1)
	for _, name := range []string{"node2", "node3"} {
		f.Options = append(f.Options, membertest.Options(t, name, member.Gateway, member.Fleet))
		f.Members = append(f.Members, nil)
	}
	f.Join(t, 0, f.Options[1])
	joined := make(chan struct{})
	go func() {
		defer close(joined)
		f.Join(t, 0, f.Options[2])
	}()
	f.Restart(t, 1)
	<-joined
	f.Restart(t, 2)
	t.Cleanup(func() { f.Kill(t, 1); f.Kill(t, 2) })
}
