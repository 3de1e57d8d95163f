//go:build ollama

package ollama

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
)

// endless is a question whose answer would take Ollama minutes.
func endless(sdk string) params {
	p := params{"model": "babble:latest", "messages": user(question)}
	if sdk == "anthropic" {
		p["max_tokens"] = 10 * window
	}
	return p
}

// TestAClientThatLeavesStopsTheGeneration leans on OLLAMA_NUM_PARALLEL=1: a
// generation that went on would keep every later one waiting.
func TestAClientThatLeavesStopsTheGeneration(t *testing.T) {
	for _, client := range []string{"openai", "anthropic"} {
		t.Run("in the middle of a stream of "+client, func(t *testing.T) {
			done := backend.answered("/v1/chat/completions")
			j := through(client, "stream", endless(client))
			j.AbortAfter = 20
			got := sdk.do(t, j)
			if !got.Aborted || got.Chunks < j.AbortAfter {
				t.Fatalf("not aborted: %+v", got)
			}
			checkStopped(t, done)
			row := foundry.recorded(t, got.request())
			if row.State != ledger.ClientGone.String() || row.UsageKnown || row.OutputTokens < int64(j.AbortAfter) || row.OutputTokens > window || row.InputTokens == 0 {
				t.Errorf("recorded as %+v", row.RequestRow)
			}
		})
	}
	t.Run("while waiting for a whole answer", func(t *testing.T) {
		done := backend.answered("/v1/chat/completions")
		number, c := sdk.start(t, through("openai", "chat", endless("openai")))
		eventually(t, "the call to reach Ollama", func() error {
			if n := foundry.provider(t, "ollama").Connections.InFlight; n != 1 {
				return fmt.Errorf("%d calls are under way", n)
			}
			return nil
		})
		sdk.abort(t, number)
		if got := <-c; got.Error == nil || got.Error.Class != "APIUserAbortError" {
			t.Fatalf("not aborted: %+v", got)
		}
		checkStopped(t, done)
		var page api.Requests
		eventually(t, "the outcome", func() error {
			err := foundry.call("GET", "/requests?limit=1", nil, &page)
			if err == nil && (len(page.Requests) != 1 || page.Requests[0].State != ledger.ClientGone.String()) {
				err = fmt.Errorf("%+v", page.Requests)
			}
			return err
		})
	})
	if c := foundry.provider(t, "ollama").Circuit; c != "closed" {
		t.Errorf("the circuit is %s: that a client left says nothing about the provider", c)
	}
}

// checkStopped waits until Ollama has ended one request more than it had, and
// then asks it something short.
func checkStopped(t *testing.T, done int) {
	t.Helper()
	began := time.Now()
	eventually(t, "Ollama to end the request", func() error {
		if n := backend.answered("/v1/chat/completions"); n != done+1 {
			return fmt.Errorf("it has answered %d more", n-done)
		}
		return nil
	})
	t.Logf("Ollama ended the request within %v", time.Since(began).Round(time.Millisecond))
	began = time.Now()
	next := sdk.do(t, direct("chat", params{"model": "babble:latest", "messages": user(question), "options": params{"num_predict": 1}}))
	if next.Output != 1 {
		t.Errorf("the next answer has %d tokens", next.Output)
	}
	t.Logf("the next answer came after %v", time.Since(began).Round(time.Millisecond))
}

// TestOllamaGoesAndComesBack ends it while it generates, keeps asking, and
// starts it again with one model more. Nobody tells the node.
func TestOllamaGoesAndComesBack(t *testing.T) {
	short := func(model string) params {
		return params{"model": model, "messages": user(question), "max_tokens": 4}
	}
	got := sdk.do(t, through("openai", "chat", short("routine")))
	if got.Headers["x-foundry-route"] != "ollama/babble:latest" {
		t.Fatalf("routine work goes to %s", got.Headers["x-foundry-route"])
	}

	seen := len(foundry.log.String())
	j := through("openai", "stream", endless("openai"))
	j.TellAfter = 5
	_, stream := sdk.start(t, j)
	if begun := <-stream; !begun.Begun {
		t.Fatalf("the stream ended with %+v", begun)
	}
	backend.kill()
	broken := <-stream
	if broken.Error == nil || broken.Error.Class != "APIError" && broken.Error.Class != "InternalServerError" {
		t.Errorf("a stream that Ollama broke off ended with %+v", broken)
	}
	eventually(t, "the broken stream to be recorded", func() error {
		var page api.Requests
		if err := foundry.call("GET", "/requests?state="+ledger.StreamBroken.String(), nil, &page); err != nil {
			return err
		}
		if len(page.Requests) != 1 {
			return fmt.Errorf("%d are", len(page.Requests))
		}
		if r := page.Requests[0]; r.Provider != "ollama" || r.OutputTokens < int64(j.TellAfter) || r.UsageKnown || len(r.Tries) != 1 || r.Tries[0].Reason == "" {
			return final{fmt.Errorf("as %+v", r)}
		}
		return nil
	})

	var last result
	for i := range 8 {
		last = sdk.try(t, through("openai", "chat", short("babble:latest")))
		if last.Error == nil || last.Error.Status < 500 {
			t.Fatalf("call %d without Ollama: %+v", i, last)
		}
	}
	if c := foundry.provider(t, "ollama").Circuit; c != "open" && c != "half-open" {
		t.Errorf("after eight failures the circuit is %s", c)
	}
	got = sdk.do(t, through("openai", "chat", short("routine")))
	if !strings.HasPrefix(got.Headers["x-foundry-route"], "simulator/") {
		t.Errorf("routine work went to %s", got.Headers["x-foundry-route"])
	}
	if row := foundry.recorded(t, got.request()); row.State != ledger.StateOK || row.Provider != "simulator" {
		t.Errorf("recorded as %+v", row.RequestRow)
	}
	eventually(t, "the node to notice", func() error {
		if h := foundry.provider(t, "ollama").Health; h == nil || h.OK {
			return errors.New("it believes that Ollama is well")
		}
		return nil
	})

	if err := backend.start(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	files := modelfiles(backend.dir+"/babbler.gguf", "")
	if err := backend.create("late", files["babble"]); err != nil {
		t.Fatal(err)
	}
	eventually(t, "Ollama to answer again", func() error {
		r := sdk.try(t, through("openai", "chat", short("babble:latest")))
		if r.Error != nil {
			return fmt.Errorf("%+v", *r.Error)
		}
		return nil
	})
	t.Logf("Ollama was in use again after %v", time.Since(began).Round(time.Millisecond))
	if c := foundry.provider(t, "ollama").Circuit; c != "closed" {
		t.Errorf("the circuit is %s", c)
	}
	got = sdk.do(t, through("openai", "chat", short("routine")))
	if got.Headers["x-foundry-route"] != "ollama/babble:latest" {
		t.Errorf("routine work goes to %s", got.Headers["x-foundry-route"])
	}
	eventually(t, "the new model to be offered", func() error {
		r := sdk.try(t, through("openai", "chat", short("late:latest")))
		if r.Error != nil {
			return fmt.Errorf("%+v", *r.Error)
		}
		return nil
	})
	t.Logf("the new model was offered after %v", time.Since(began).Round(time.Millisecond))
	if n := strings.Count(foundry.log.String()[seen:], `"msg":"provider probed"`); n != 2 {
		t.Errorf("the log tells %d times of a change of health:\n%s", n, foundry.log.String()[seen:])
	}
}

// The name says when it runs: last, when the log has everything.
func TestZNothingOfAConversationIsLogged(t *testing.T) {
	log := foundry.log.String()
	if !strings.Contains(log, "provider probed") {
		t.Fatal("there is no log")
	}
	for _, secret := range []string{"canary-7f3a", "capital of France", "It has 7 degrees", "Oslo", foundry.Key} {
		if strings.Contains(log, secret) {
			t.Errorf("the log has %q", secret)
		}
	}
}
