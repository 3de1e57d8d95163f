package simulator

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/missionopsai/foundry/internal/problem"
)

func TestTheTextualFormOfAFaultIsRead(t *testing.T) {
	for text, want := range map[string]Fault{
		"429":                               {Name: "status", Status: 429},
		"429 retry-after=2":                 {Name: "status", Status: 429, RetryAfter: "2"},
		"500":                               {Name: "status", Status: 500},
		"overloaded-529":                    {Name: "status", Status: 529},
		"401-quotes-key":                    {Name: "quotes-key", Status: 401},
		"quotes-key status=500":             {Name: "quotes-key", Status: 500},
		"hang-before-headers":               {Name: "hang-before-headers"},
		"hang-after-headers 200ms":          {Name: "hang-after-headers", For: 200 * time.Millisecond},
		"stall chunk=3":                     {Name: "stall", Chunk: 3},
		"stall event=1 for=1s":              {Name: "stall", Event: 1, For: time.Second},
		"cut":                               {Name: "cut", With: "fin"},
		"cut chunk=3 with=rst mid":          {Name: "cut", Chunk: 3, With: "rst", Mid: true},
		"drip 50ms":                         {Name: "drip", For: 50 * time.Millisecond, Size: 16},
		"drip 1ms size=1":                   {Name: "drip", For: time.Millisecond, Size: 1},
		"huge 50MB":                         {Name: "huge", Size: 50 << 20, Value: "chunks"},
		"huge 64KB in=event":                {Name: "huge", Size: 64 << 10, Value: "event"},
		"redirect http://a.invalid/x":       {Name: "redirect", Status: 307, Value: "http://a.invalid/x"},
		"wrong-content-type type=a/b":       {Name: "wrong-content-type", Value: "a/b"},
		"  early-close   with=rst ":         {Name: "early-close", With: "rst"},
		"html-page status=503":              {Name: "html-page", Status: 503},
		"context-length-exceeded":           {Name: "context-length-exceeded", Status: 400},
		"error-event chunk=3":               {Name: "error-event", Chunk: 3},
		"malformed-json chunk=2":            {Name: "malformed-json", Chunk: 2},
		"split-every-byte":                  {Name: "split-every-byte"},
		"no-done":                           {Name: "no-done"},
		"wrong-content-type":                {Name: "wrong-content-type", Value: "text/html; charset=utf-8"},
		"redirect to=/elsewhere status=301": {Name: "redirect", Status: 301, Value: "/elsewhere"},
	} {
		got, err := ParseFault(text)
		if err != nil || got != want {
			t.Errorf("ParseFault(%q) = %+v, %v; want %+v", text, got, err, want)
		}
	}
}

func TestWrongFaultsAreRefusedWithAReason(t *testing.T) {
	for text, reason := range map[string]string{
		"":                           "empty",
		"explode":                    `no fault "explode"`,
		"200":                        "no HTTP error status",
		"0429":                       "no HTTP error status",
		"status":                     "bare number",
		"429 chunk=3":                `no parameter "chunk"`,
		"cut with=fire":              `"fire" is no value for with`,
		"cut chunk=-1":               `"-1" is no value for chunk`,
		"cut chunk=999999999999":     "is no value for chunk",
		"stall for=soon":             "is no value for for",
		"stall for=-1s":              "is no value for for",
		"huge 0MB":                   "is no value for size",
		"huge 2GB":                   "is no value for size",
		"huge 9223372036854775807MB": "is no value for size",
		"huge in=pocket":             "is no value for in",
		"quotes-key status=77":       "is no value for status",
		"no-done now":                `no parameter "now"`,
	} {
		_, err := ParseFault(text)
		var p *problem.Error
		if !errors.As(err, &p) || p.Kind != problem.Invalid || p.Mend == "" || !strings.Contains(p.Detail, reason) {
			t.Errorf("ParseFault(%q) = %v; want a problem that says %q", text, err, reason)
		}
	}
}

func TestEveryListedFaultIsReadByItsName(t *testing.T) {
	list := Faults()
	if len(list) != len(faults) {
		t.Fatalf("Faults lists %d of %d", len(list), len(faults))
	}
	for _, line := range list {
		name, does, ok := strings.Cut(line, ": ")
		f, err := ParseFault(name)
		if !ok || err != nil || does == "" {
			t.Errorf("%q: %v", line, err)
		}
		if again, err := ParseFault(f.String()); err != nil || again != f {
			t.Errorf("%q becomes %q, which reads as %+v, %v", name, f.String(), again, err)
		}
	}
}

func TestAFaultSurvivesItsTextualForm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SampledFrom([]string{"429", "cut", "stall", "drip", "huge", "redirect", "quotes-key", "early-close", "html-page"}).Draw(t, "name")
		params := map[string]string{
			"chunk": "7", "event": "2", "mid": "true", "with": "rst", "for": "1m30s", "size": "12KB", "in": "event",
			"to": "http://x.invalid/", "status": "418", "retry-after": "3",
		}
		name := text
		if name == "429" {
			name = "status"
		}
		for key, value := range params {
			if contains(faults[name].params, key) && rapid.Bool().Draw(t, key) {
				text += " " + key + "=" + value
			}
		}
		f, err := ParseFault(text)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseFault(f.String())
		if err != nil || again != f {
			t.Fatalf("%q: %+v becomes %q, which reads as %+v, %v", text, f, f.String(), again, err)
		}
	})
}

func FuzzParseFault(f *testing.F) {
	for _, seed := range []string{"429 retry-after=2", "cut chunk=3 with=rst mid", "drip 50ms size=1", "huge 50MB in=event", "redirect to=/x", "401-quotes-key", "stall for=1h"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		fault, err := ParseFault(text)
		if err != nil {
			return
		}
		again, err := ParseFault(fault.String())
		if err != nil || again != fault {
			t.Fatalf("%q: %+v becomes %q, which reads as %+v, %v", text, fault, fault.String(), again, err)
		}
	})
}

func TestAMistypedFaultPanicsWhereItIsAConstant(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("MustFault took a fault that does not exist")
		}
	}()
	MustFault("explode")
}
