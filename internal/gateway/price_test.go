package gateway

import (
	"math"
	"testing"

	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/missionopsai/foundry/internal/problem"
)

func TestPricesAreExactInTheLedgersCurrency(t *testing.T) {
	x, err := newExchange("EUR", map[string]string{"USD": "0.92"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, amount, currency string
		want                   int64
	}{
		{"a price in the ledger's own currency", "0.15", "", 150_000_000},
		{"a price in another currency", "2.00", "USD", 1_840_000_000},
		{"a fraction of a nano-unit counts as a whole one", "0.0000000001", "", 1},
		{"nothing is free", "0", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := x.nano("price", c.amount, c.currency, maxPrice); err != nil || got != c.want {
				t.Fatalf("%d %v, want %d", got, err, c.want)
			}
		})
	}
	for _, bad := range []string{"", "-1", "1e3", "1/3", "1.2.3", "0x10", "99999999999999999999", "½", "NaN", "1_000"} {
		if got, err := x.nano("price", bad, "", maxPrice); err == nil {
			t.Errorf("%q was taken as %d", bad, got)
		}
	}
	if _, err := x.nano("price", "1", "GBP", maxPrice); problem.From(err).Code != "currency-rate" {
		t.Errorf("a currency without a rate: %v", err)
	}
}

func TestABadLedgerCurrencyOrRateIsRefused(t *testing.T) {
	for _, c := range []struct {
		currency string
		rates    map[string]string
	}{{"XXX", nil}, {"eur", nil}, {"JPY", nil}, {"EUR", map[string]string{"USD": "0"}}, {"EUR", map[string]string{"USD": "-1"}}, {"EUR", map[string]string{"USD": "much"}}} {
		if _, err := newExchange(c.currency, c.rates); err == nil {
			t.Errorf("%v was taken", c)
		}
	}
}

func TestCachedTokensHaveTheirOwnPrice(t *testing.T) {
	x, err := newExchange("EUR", nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := ProviderModelConfig{Name: "m", Price: &PriceConfig{Input: "3.00", Output: "15.00", CachedInput: "0.30", CacheWrite: "3.75"}}.model(x)
	if err != nil {
		t.Fatal(err)
	}
	// 1000 plain at 3, 2000 cached at 0.30, 500 written at 3.75, 100 out at 15, per million:
	want := int64(3_000_000 + 600_000 + 1_875_000 + 1_500_000)
	if got := m.Price.Cost(wire.Usage{Input: 3500, CachedInput: 2000, CacheWrite: 500, Output: 100, Set: true}); got != want {
		t.Fatalf("%d, want %d", got, want)
	}
	if m.Price.Worst(3500, 100) < want {
		t.Fatal("the worst case is below the real cost")
	}
	if m.Price.Cost(wire.Usage{Output: math.MaxInt64 / 2}) <= 0 {
		t.Fatal("an absurd usage overflowed")
	}
}
