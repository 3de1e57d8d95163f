package member_test

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
	"github.com/missionopsai/foundry/internal/problem"
)

// A node that was removed while it was away finds every door closed when it
// comes back. It does not take the others for lost, which would have its
// operator found the fleet a second time: it ends, and says why.
func TestANodeThatWasRemovedWhileItWasAwayIsTold(t *testing.T) {
	faultsOnly(t)
	t.Parallel()
	f := membertest.Start(t, 3)
	f.Kill(t, 2)
	f.Await(t, "node3 can be removed", func(ctx context.Context) bool { return f.Members[0].Remove(ctx, "person:test", "node3") == nil })
	o := f.Options[2]
	o.Patience = time.Second
	ctx, cancel := context.WithTimeout(context.Background(), membertest.Patience)
	defer cancel()
	back, err := member.Start(ctx, o)
	if err == nil {
		defer back.Abandon()
		select {
		case <-back.Done():
			err = back.Stop(ctx)
		case <-ctx.Done():
			t.Fatalf("it goes on: %s", back.Status(context.Background()).Words)
		}
	}
	if p := problem.From(err); p.Code != "node-removed" || p.Mend == "" {
		t.Errorf("it ended with %v", err)
	}
}

// Whoever sits at the address of a member and has no certificate of the fleet
// cannot make a node believe that it was removed.
func TestAStrangerCannotTellANodeThatItWasRemoved(t *testing.T) {
	faultsOnly(t)
	t.Parallel()
	f := membertest.Start(t, 2)
	// The list is there for whoever asks, and is no secret.
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	r, err := client.Get("https://" + f.Options[1].Listen.Join + "/v1/revoked")
	if err != nil {
		t.Fatal(err)
	}
	list, err := io.ReadAll(r.Body)
	_ = r.Body.Close()
	if err != nil || r.StatusCode != http.StatusOK || len(list) == 0 {
		t.Fatal(r.Status, err)
	}
	f.Kill(t, 1)
	asked := make(chan struct{}, 16)
	stranger := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(list) }))
	_ = stranger.Listener.Close()
	stranger.Listener = membertest.Listen(t, f.Options[1].Listen.Join, asked)
	stranger.StartTLS()
	defer stranger.Close()
	for range 2 { // the second time, the first answer has been judged
		select {
		case <-asked:
		case <-time.After(membertest.Patience):
			t.Fatal("nobody asks")
		}
	}
	select {
	case <-f.Members[0].Done():
		t.Fatal("it believed a stranger")
	default:
	}
}
