package member

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"time"
)

// revokedDoor is where the signed list of certificates that no longer count is
// given to whoever asks: a node that was removed while it was away is let in
// nowhere else, and would take the others for lost.
const revokedDoor = "/v1/revoked"

// largestList bounds a list that is read.
const largestList = 1 << 20

func (m *Member) answerRevoked(w http.ResponseWriter, _ *http.Request) {
	list, err := os.ReadFile(m.files.path(revokedFile))
	if err != nil {
		http.Error(w, "There is no list.", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/pkix-crl") // RFC 2585
	_, _ = w.Write(list)
}

// askEvery is how often a node that hears no majority asks whether it was
// removed.
const askEvery = 3 * time.Second

// keepAsking asks the others, while this node hears no majority, whether it is
// one of them still.
func (m *Member) keepAsking() {
	for m.pause(askEvery) {
		ctx, cancel := context.WithTimeout(m.life, callPatience)
		_, err := m.Nodes(ctx)
		cancel()
		if err == nil || m.life.Err() != nil || !m.removedBy(m.files.read().Members) {
			continue
		}
		m.mu.Lock()
		m.ended = errRevoked
		m.mu.Unlock()
		m.log.Error("this node was removed from the fleet while it was away")
		m.stop()
		return
	}
}

// removedBy asks members for the list. What a stranger says counts for nothing:
// the list is signed by the fleet's authority. The list itself is not taken
// over, for it may be an old one.
func (m *Member) removedBy(members []knownMember) bool {
	config := m.tls.dial(memberName)
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: callPatience}
	own := m.tls.leaf().SerialNumber.Text(16)
	for _, k := range members {
		if k.Name == m.o.Name || k.Addresses.Join == "" {
			continue
		}
		q, err := http.NewRequestWithContext(m.life, http.MethodGet, "https://"+k.Addresses.Join+revokedDoor, nil)
		if err != nil {
			continue
		}
		a, err := client.Do(q)
		if err != nil {
			continue
		}
		der, err := io.ReadAll(io.LimitReader(a.Body, largestList))
		_ = a.Body.Close()
		if err != nil || a.StatusCode != http.StatusOK {
			continue
		}
		if list, err := m.tls.authority.revoked(der); err == nil && list[own] {
			return true
		}
	}
	return false
}
