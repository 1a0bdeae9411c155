package gc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// The form of a file of policies. Ages are texts, since days have no unit in Go.
type policyFile struct {
	Policies []struct {
		Repositories      []string `yaml:"repositories"`
		Cascade           bool     `yaml:"cascade"`
		UntaggedOlderThan string   `yaml:"untaggedOlderThan"`
		Everything        bool     `yaml:"everything"`
		KeepPulledWithin  string   `yaml:"keepPulledWithin"`
		Keep              []string `yaml:"keep"`
		Tags              []struct {
			Match      []string `yaml:"match"`
			KeepLast   int      `yaml:"keepLast"`
			OlderThan  string   `yaml:"olderThan"`
			Everything bool     `yaml:"everything"`
		} `yaml:"tags"`
	} `yaml:"policies"`
}

// ParsePolicies parses and validates a file of policies, in YAML or JSON. Its keys are the fields of [Policy] and [TagRule],
// with a small first letter; unknown ones are refused. An age is a number with a unit, h, m or s as in Go, or d for 24
// hours: "30d". Errors name the field.
//
//	policies:
//	  - repositories: [team/**]
//	    cascade: true
//	    untaggedOlderThan: 30d
//	    keepPulledWithin: 14d
//	    keep: [latest]
//	    tags:
//	      - {match: [pr-*], keepLast: 5, olderThan: 7d}
func ParsePolicies(text []byte) ([]Policy, error) {
	var file, more policyFile
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("parse policies: %w", explain(text, err))
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("parse policies: more than one document")
	}
	var errs []error
	age := func(text, field string, args ...any) time.Duration {
		d, err := parseAge(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", fmt.Sprintf(field, args...), err))
		}
		return d
	}
	all := make([]Policy, len(file.Policies))
	for i, from := range file.Policies {
		all[i] = Policy{
			Repositories:      from.Repositories,
			Cascade:           from.Cascade,
			UntaggedOlderThan: age(from.UntaggedOlderThan, "policies[%d].untaggedOlderThan", i),
			Everything:        from.Everything,
			KeepPulledWithin:  age(from.KeepPulledWithin, "policies[%d].keepPulledWithin", i),
			Keep:              from.Keep,
		}
		for j, rule := range from.Tags {
			all[i].Tags = append(all[i].Tags, TagRule{
				Match: rule.Match, KeepLast: rule.KeepLast, Everything: rule.Everything,
				OlderThan: age(rule.OlderThan, "policies[%d].tags[%d].olderThan", i, j),
			})
		}
	}
	if len(errs) == 0 {
		errs = append(errs, ValidatePolicies(all))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("parse policies: %w", err)
	}
	return all, nil
}

// parseAge parses an age; "" is none.
func parseAge(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	const day, most = 24 * time.Hour, 100_000 // days
	if number, ok := strings.CutSuffix(text, "d"); ok {
		days, err := strconv.Atoi(number)
		if err != nil || days < 0 || days > most {
			return 0, fmt.Errorf("age %q: want a number of days up to %d, such as 30d", text, most)
		}
		return time.Duration(days) * day, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("age %q: want a number with a unit, such as 30d or 12h", text)
	}
	return d, nil
}
