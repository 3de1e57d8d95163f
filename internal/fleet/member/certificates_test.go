package member_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
)

// shownBy is the certificate that a node shows to another that dials it now.
func shownBy(t *testing.T, to, from *member.Member) (until time.Time, serial string) {
	t.Helper()
	n, err := from.Node(t.Context(), to.Name())
	if err != nil {
		return until, ""
	}
	conn, err := (&tls.Dialer{Config: from.ClientTLS(to.Name())}).DialContext(t.Context(), "tcp", n.Addresses.Clients)
	if err != nil {
		return until, ""
	}
	defer conn.Close()
	leaf := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
	return leaf.NotAfter, leaf.SerialNumber.Text(16)
}

// Certificates that last less than a minute are renewed while the fleet works:
// those of members by themselves, those of a witness and of a gateway that does
// not vote by asking. When the first ones have run out everybody still
// reaches everybody, also who starts anew.
func TestCertificatesAreRenewedWhileTheFleetWorks(t *testing.T) {
	faultsOnly(t)
	t.Parallel()
	const life = 45 * time.Second
	f := membertest.StartWith(t, 3, func(i int, o *member.Options) {
		o.CertLife = life
		if i == 2 {
			o.Roles = []member.Role{member.Witness}
		}
	})
	plain := membertest.Options(t, "plain", member.Gateway)
	plain.CertLife = life
	f.Join(t, 0, plain)
	gateway, err := member.Start(t.Context(), plain)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = gateway.Stop(context.WithoutCancel(t.Context())) })
	serials := map[string]map[string]bool{}
	var last time.Time // when the last of the first certificates runs out
	look := func() (all bool) {
		all = true
		for i, to := range f.Members {
			from := f.Members[(i+1)%3]
			until, serial := shownBy(t, to, from)
			if serial == "" {
				all = false
				continue
			}
			if serials[to.Name()] == nil {
				serials[to.Name()] = map[string]bool{}
				if until.After(last) {
					last = until
				}
			}
			serials[to.Name()][serial] = true
			all = all && len(serials[to.Name()]) >= 3
		}
		return all
	}
	membertest.Await(t, "everybody shows a certificate", func(context.Context) bool { look(); return len(serials) == 3 })
	first := gateway.Status(t.Context()).Expires
	n, failed := 0, 0
	membertest.Await(t, "two renewals of each", func(ctx context.Context) bool {
		n++
		if _, err := gateway.Store().Put(ctx, "test/written", n); err != nil {
			failed++
			return false
		}
		return look() && gateway.Status(ctx).Expires.After(first.Add(life))
	})
	membertest.Await(t, "the first certificates to run out", func(context.Context) bool { return time.Now().After(last) && time.Now().After(first) })
	for i := range f.Members {
		f.Kill(t, i)
		f.Restart(t, i)
		f.Await(t, fmt.Sprint("everybody answers after a restart of ", i), func(ctx context.Context) bool {
			s := f.Members[i].Status(ctx)
			return s.Majority && s.Answer == 3
		})
	}
	membertest.Await(t, "the gateway that does not vote to write", func(ctx context.Context) bool {
		_, err := gateway.Store().Put(ctx, "test/written", "at the end")
		return err == nil
	})
	t.Logf("%d of %d writes failed; %d, %d and %d certificates", failed, n, len(serials["node1"]), len(serials["node2"]), len(serials["node3"]))
}
