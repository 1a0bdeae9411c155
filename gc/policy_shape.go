package gc

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// shape is what a value of a file of policies has to be. It is looked at to tell people which key is wrong: the decoder knows only
// the line.
type shape struct {
	want string
	make func() any       // what a scalar can be decoded into
	each *shape           // of a list
	keys map[string]shape // of a mapping
}

var (
	shapeName   = shape{want: "a pattern", make: func() any { return new(string) }}
	shapeNames  = shape{want: "a list of patterns", each: &shapeName}
	shapeAge    = shape{want: "an age such as 30d", make: func() any { return new(string) }}
	shapeNumber = shape{want: "a whole number", make: func() any { return new(int) }}
	shapeBool   = shape{want: "true or false", make: func() any { return new(bool) }}
	shapeRule   = shape{want: "a rule for tags, with match and so on", keys: map[string]shape{
		"match": shapeNames, "keepLast": shapeNumber, "olderThan": shapeAge, "everything": shapeBool,
	}}
	shapePolicy = shape{want: "a policy, with repositories and so on", keys: map[string]shape{
		"repositories": shapeNames, "cascade": shapeBool, "untaggedOlderThan": shapeAge, "everything": shapeBool,
		"keepPulledWithin": shapeAge, "keep": shapeNames,
		"tags": {want: "a list of rules", each: &shapeRule},
	}}
	shapeFile = shape{want: "a mapping with the key policies", keys: map[string]shape{
		"policies": {want: "a list of policies", each: &shapePolicy},
	}}
)

// explain tells which keys the decoder's error is about, if they can be found.
func explain(text []byte, failed error) error {
	var wrong *yaml.TypeError
	var document yaml.Node
	if !errors.As(failed, &wrong) || yaml.Unmarshal(text, &document) != nil || len(document.Content) != 1 {
		return failed
	}
	errs := shapeFile.check("", document.Content[0])
	if len(errs) == 0 {
		return failed
	}
	for _, line := range wrong.Errors {
		if !strings.Contains(line, "cannot unmarshal") { // a key that is unknown
			errs = append(errs, errors.New(line))
		}
	}
	return errors.Join(errs...)
}

// check returns what is wrong below a path.
func (s shape) check(path string, node *yaml.Node) (errs []error) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	kind := yaml.ScalarNode
	switch {
	case s.each != nil:
		kind = yaml.SequenceNode
	case s.keys != nil:
		kind = yaml.MappingNode
	}
	null := node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null"
	if null {
		return nil
	}
	if node.Kind != kind || s.make != nil && node.Decode(s.make()) != nil {
		return []error{fmt.Errorf("%s: want %s%s", cmp.Or(strings.TrimPrefix(path, "."), "the file"), s.want, instead(node))}
	}
	for i, child := range node.Content {
		switch {
		case s.each != nil:
			errs = slices.Concat(errs, s.each.check(fmt.Sprintf("%s[%d]", path, i), child))
		case s.keys != nil && i%2 == 1:
			key := node.Content[i-1].Value
			if of, known := s.keys[key]; known {
				errs = slices.Concat(errs, of.check(path+"."+key, child))
			}
		}
	}
	return errs
}

// instead says what a node is.
func instead(node *yaml.Node) string {
	switch node.Kind {
	case yaml.ScalarNode:
		return fmt.Sprintf(", not %q", node.Value)
	case yaml.SequenceNode:
		return ", not a list"
	default:
		return ", not a mapping"
	}
}
