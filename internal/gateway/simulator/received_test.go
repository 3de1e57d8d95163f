package simulator

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestWhatArrivedIsRecordedInOrder(t *testing.T) {
	s := New(Options{Now: fixedNow})
	s.Next(MustFault("429"))
	ask(s, "POST", "/v1/chat/completions?a=b", `{"one":1}`, "X-Trace", "7")
	ask(s, "GET", "/v1/models", "")
	seen, err := s.WaitRequests(patient(t), 2)
	if err != nil || len(seen) != 2 {
		t.Fatalf("got %d requests, %v", len(seen), err)
	}
	r := seen[0]
	if r.Method != "POST" || r.Path != "/v1/chat/completions" || r.RawQuery != "a=b" || string(r.Body) != `{"one":1}` ||
		r.Header.Get("X-Trace") != "7" || r.Status != 429 || r.Fault != "429" || r.Sent == 0 || !r.At.Equal(testTime) {
		t.Errorf("the first request is recorded as %+v", r)
	}
	if seen[1].Path != "/v1/models" || seen[1].Fault != "" || seen[1].Status != 200 {
		t.Errorf("the second request is recorded as %+v", seen[1])
	}
	wait(t, r.Done)
	select {
	case <-r.Gone:
		t.Error("a client that read everything counts as gone")
	default:
	}
	s.ForgetRequests()
	if len(s.Requests()) != 0 {
		t.Error("something is left after ForgetRequests")
	}
}

func TestWaitingForARequestThatDoesNotComeEndsWithTheContext(t *testing.T) {
	s := New(Options{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.WaitRequests(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestAForgetfulSimulatorKeepsNothing(t *testing.T) {
	s := New(Options{Forget: true})
	ask(s, "POST", "/v1/chat/completions", `{}`)
	if len(s.Requests()) != 0 {
		t.Errorf("kept %+v", s.Requests())
	}
}

func TestFaultsApplyInOrderThenTheStandingOneUntilCleared(t *testing.T) {
	s := New(Options{})
	s.Next(MustFault("500"), Fault{}, MustFault("503"))
	s.Always(MustFault("429"))
	for i, want := range []int{500, 200, 503, 429, 429} {
		if got := ask(s, "GET", "/v1/models", "").Code; got != want {
			t.Errorf("request %d: status %d, want %d", i, got, want)
		}
	}
	s.Next(MustFault("500"))
	s.Clear()
	if got := ask(s, "GET", "/v1/models", "").Code; got != 200 {
		t.Errorf("after Clear: status %d", got)
	}
}

func TestAClientThatLeavesMidStreamIsNoticedAtOnce(t *testing.T) {
	s, addr := start(t, Options{Chunks: 2000, BetweenChunks: 50 * time.Millisecond})
	conn := rawAsk(t, addr, OpenAI, true)
	readUntil(t, conn, `"content":"`)
	seen, err := s.WaitRequests(patient(t), 1)
	if err != nil {
		t.Fatal(err)
	}
	left := time.Now()
	_ = conn.Close()
	wait(t, seen[0].Gone)
	if after := time.Since(left); after > patience/2 {
		t.Errorf("noticed after %s", after)
	}
	wait(t, seen[0].Done)
	if r := s.Requests()[0]; r.Sent == 0 || r.GoneAt.Before(left.Add(-time.Second)) {
		t.Errorf("recorded as %+v", r)
	}
}

func TestAClientThatLeavesWhileItSendsIsRecorded(t *testing.T) {
	s, addr := start(t, Options{})
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	seen, err := s.WaitRequests(patient(t), 1)
	if err != nil {
		t.Fatal(err)
	}
	wait(t, seen[0].Gone)
	if string(seen[0].Body) != "{" {
		t.Errorf("body %q", seen[0].Body)
	}
}

func TestTheStreamKeepsItsPace(t *testing.T) {
	var slept []time.Duration
	s := New(Options{Chunks: 3, FirstByte: time.Hour, BetweenChunks: time.Minute,
		Sleep: func(_ context.Context, d time.Duration) error { slept = append(slept, d); return nil }})
	path, body := chatBody(OpenAI, true)
	stream := ask(s, "POST", path, body).Body.String()
	events := strings.Count(stream, "data: ")
	if len(slept) != events || slept[0] != time.Hour || slept[1] != time.Minute {
		t.Errorf("%d events, slept %v", events, slept)
	}
	if contents(stream) != 3 {
		t.Errorf("want 3 content chunks, got %d", contents(stream))
	}
}

func TestARequestBeyondTheBoundIsRefusedInTheVendorsWords(t *testing.T) {
	_, addr := start(t, Options{Format: Anthropic})
	body := io.MultiReader(strings.NewReader(`{"model":"`), strings.NewReader(strings.Repeat("x", 33<<20)))
	r, _ := http.NewRequestWithContext(patient(t), "POST", "http://"+addr+"/v1/messages", body)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 413 || !strings.Contains(string(got), "request_too_large") {
		t.Errorf("got %d %s", resp.StatusCode, got)
	}
}
