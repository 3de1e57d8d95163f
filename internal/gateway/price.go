package gateway

import (
	"fmt"
	"math"
	"math/big"
	"strings"

	"github.com/missionopsai/foundry/internal/problem"
)

const million = 1_000_000

// exchange turns prices into the ledger's currency.
type exchange struct {
	currency string
	rates    map[string]*big.Rat
}

// minorCurrencies are the ledger currencies offered: those with two decimals
// that are used in the jurisdictions Foundry knows (ISO 4217).
var minorCurrencies = map[string]bool{"EUR": true, "GBP": true, "USD": true, "CHF": true, "DKK": true, "NOK": true, "SEK": true, "PLN": true,
	"CZK": true, "RON": true, "BGN": true, "CAD": true, "AUD": true, "NZD": true}

func newExchange(currency string, rates map[string]string) (*exchange, error) {
	x := &exchange{currency: orString(currency, "EUR"), rates: map[string]*big.Rat{}}
	if !minorCurrencies[x.currency] {
		return nil, problem.New(problem.Invalid, "currency", fmt.Sprintf("%q is not a currency the ledger can be kept in.", currency)).
			WithField("currency").WithMend("Use a code such as EUR, GBP, USD or CHF.")
	}
	x.rates[x.currency] = big.NewRat(1, 1)
	for code, text := range rates {
		r, err := decimal(text)
		if err != nil || r.Sign() <= 0 {
			return nil, problem.New(problem.Invalid, "exchange-rate", fmt.Sprintf("%q is not a rate.", text)).
				WithField("exchange_rates." + code).WithMend(`Write a positive decimal in quotes, for example "0.92".`)
		}
		x.rates[code] = r
	}
	return x, nil
}

// decimal parses a plain decimal number: no exponent, no fraction bar.
func decimal(text string) (*big.Rat, error) {
	if text == "" || len(text) > 24 || strings.Trim(text, "0123456789.") != "" || strings.Count(text, ".") > 1 {
		return nil, fmt.Errorf("%q is not a decimal number", text)
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		return nil, fmt.Errorf("%q is not a decimal number", text)
	}
	return r, nil
}

// nano converts an amount in a currency into nano-units of the ledger's,
// rounded up. what names the amount in errors.
func (x *exchange) nano(what, amount, currency string, largest int64) (int64, error) {
	r, err := decimal(amount)
	if err != nil {
		return 0, problem.New(problem.Invalid, what, fmt.Sprintf("%q is not an amount of money.", amount)).
			WithMend(`Write a decimal in quotes, for example "0.15".`)
	}
	rate := x.rates[orString(currency, x.currency)]
	if rate == nil {
		return 0, problem.New(problem.Invalid, "currency-rate", fmt.Sprintf("There is no exchange rate from %s to %s.", currency, x.currency)).
			WithMend("Add it under exchange_rates.")
	}
	n := new(big.Rat).Mul(new(big.Rat).Mul(r, rate), big.NewRat(1_000_000_000, 1))
	q, rem := new(big.Int).QuoRem(n.Num(), n.Denom(), new(big.Int))
	if rem.Sign() > 0 {
		q.Add(q, big.NewInt(1))
	}
	if !q.IsInt64() || q.Int64() > largest {
		return 0, problem.New(problem.Invalid, what, fmt.Sprintf("%q is too large.", amount))
	}
	return q.Int64(), nil
}

const (
	maxPrice  = math.MaxInt64 / million // nine thousand currency units per million tokens
	maxAmount = math.MaxInt64 / 16      // half a milliard currency units
)

func (m ProviderModelConfig) model(x *exchange) (*ProviderModel, error) {
	pm := &ProviderModel{Name: m.Name, Tier: m.Tier, Context: m.Context, MaxOutput: m.MaxOutput}
	if pm.Context == 0 {
		pm.Context = defaultContext
	}
	if pm.MaxOutput == 0 || pm.MaxOutput > pm.Context {
		pm.MaxOutput = pm.Context
	}
	if m.Price == nil {
		return pm, nil
	}
	pm.Priced = true
	pm.Price.Currency = x.currency
	var err error
	for _, f := range []struct {
		to       *int64
		amount   string
		fallback string
	}{
		{&pm.Price.Input, m.Price.Input, ""}, {&pm.Price.Output, m.Price.Output, ""},
		{&pm.Price.Cached, m.Price.CachedInput, m.Price.Input}, {&pm.Price.CacheWrite, m.Price.CacheWrite, m.Price.Input},
	} {
		if *f.to, err = x.nano("price", orString(f.amount, f.fallback), m.Price.Currency, maxPrice); err != nil {
			return nil, err
		}
	}
	return pm, nil
}
