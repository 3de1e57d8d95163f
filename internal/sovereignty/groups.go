package sovereignty

import "time"

// European Union: the 27 member states (Treaty on European Union, art. 52; as
// of November 2026). Outermost regions and Åland have ISO codes of their own
// (GP, MQ, GF, RE, YT, MF, AX); they are left out and can be named one by one.
var euSet = SetOf("AT", "BE", "BG", "HR", "CY", "CZ", "DK", "EE", "FI", "FR", "DE", "GR", "HU", "IE",
	"IT", "LV", "LT", "LU", "MT", "NL", "PL", "PT", "RO", "SK", "SI", "ES", "SE")

// European Economic Area: the EU and the EFTA states that are party to the
// Agreement on the EEA. The GDPR applies there by Joint Committee Decision
// No 154/2018. Switzerland is not a member.
var eeaSet = euSet.Union(SetOf("IS", "LI", "NO"))

// Countries outside the EEA that UK adequacy regulations cover for every
// recipient: Data Protection Act 2018, Schedule 21, paragraphs 4 to 6, as
// inserted in 2019; as of November 2026. The same Schedule covers EEA states.
var ukAdequateFully = SetOf("AD", "AR", "CH", "GG", "GI", "IL", "IM", "JE", "NZ", "UY")

// Countries that UK adequacy regulations cover only for some recipients:
// Canada where PIPEDA applies, Japan where the APPI applies, the Republic of
// Korea where the PIPA applies (SI 2022/1213). The Faroe Islands are here
// because published lists disagree about them. That a recipient is covered is
// a fact somebody has to record, as a Safeguard. The United States is not
// here: SI 2023/1028 covers only recipients certified under the UK Extension,
// which is the instrument UKUSBridge.
var ukAdequatePartly = SetOf("CA", "FO", "JP", "KR")

// Countries with a decision of the European Commission under GDPR art. 45
// that covers every recipient: the Commission's list of adequacy decisions,
// as of November 2026, with the United Kingdom (renewed on 19 December 2025)
// and Brazil (Implementing Decision (EU) 2026/179).
var euAdequateFully = SetOf("AD", "AR", "BR", "CH", "FO", "GB", "GG", "IL", "IM", "JE", "NZ", "UY")

// Countries with a Commission decision for some recipients only: Canada
// (2002/2/EC, commercial organisations), Japan ((EU) 2019/419, private
// sector), Republic of Korea ((EU) 2022/254, not credit information). The
// United States is not here: (EU) 2023/1795 covers only recipients on the
// Data Privacy Framework list, which is the instrument EUUSDPF.
var euAdequatePartly = SetOf("CA", "JP", "KR")

// The Commission's decision on the United Kingdom ((EU) 2021/1772 as renewed)
// expires on 27 December 2031 unless renewed. The day itself no longer counts.
var euDecisionOnUKEnds = time.Date(2031, time.December, 27, 0, 0, 0, 0, time.UTC)

type groupMask uint8

// groups is what a policy may name. The order is the order in which a set is
// written; adding a group goes at the end.
var groups = [...]struct {
	name   string
	phrase string
	set    Set
}{
	{"EEA", "the EEA", named(eeaSet, 0)},
	{"EU", "the EU", named(euSet, 1)},
	{"UK-adequate", "countries under UK adequacy regulations", named(eeaSet.Union(ukAdequateFully).Union(ukAdequatePartly), 2)},
	{"EU-adequate", "countries with an EU adequacy decision", named(euAdequateFully.Union(euAdequatePartly), 3)},
}

func named(s Set, i int) Set {
	s.groups = 1 << i
	return s
}

// EEA is the European Economic Area.
func EEA() Set { return groups[0].set }

// EU is the European Union.
func EU() Set { return groups[1].set }

// UKAdequate holds the countries that UK adequacy regulations cover at least
// for some recipients, EEA states included. The United Kingdom itself is not
// among them, nor the United States.
func UKAdequate() Set { return groups[2].set }

// EUAdequate holds the countries outside the EEA that a Commission decision
// covers at least for some recipients; not the United States.
func EUAdequate() Set { return groups[3].set }

// GroupNames lists the group names that configuration may use.
func GroupNames() []string {
	names := make([]string, len(groups))
	for i, g := range groups {
		names[i] = g.name
	}
	return names
}

func groupByName(name string) (Set, bool) {
	for _, g := range groups {
		if g.name == name {
			return g.set, true
		}
	}
	return Set{}, false
}

// within keeps the names of groups that s still holds entirely.
func (m groupMask) within(s Set) groupMask {
	for i, g := range groups {
		if m&(1<<i) != 0 && !s.Contains(g.set) {
			m &^= 1 << i
		}
	}
	return m
}
