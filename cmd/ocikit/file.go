package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// configFile is the file of --config: values for flags, by their names, and what no flag can say. Flags and the environment override it.
type configFile struct {
	Upstreams map[string]upstreamConfig
	Routes    []routeConfig

	values map[string]any // of flags
	path   string         // "": there is none
	err    error          // of reading it
	read   bool
}

var _ kong.Resolver = (*configFile)(nil)

// load reads the file once. What is wrong with it, Validate tells.
func (f *configFile) load(path string) {
	if f.read {
		return
	}
	f.read, f.path = true, path
	if path == "" {
		return
	}
	data, err := os.ReadFile(path)
	if err == nil {
		err = f.parse(data)
	}
	if err != nil {
		f.err = fmt.Errorf("--config: %s: %w", path, err)
	}
}

func (f *configFile) parse(data []byte) error {
	var document map[string]yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return fmt.Errorf("want YAML with a key for each flag: %w", err)
	}
	var errs []error
	f.values = map[string]any{}
	for _, key := range slices.Sorted(maps.Keys(document)) {
		node := document[key]
		switch key {
		case "upstreams":
			errs = append(errs, f.parseUpstreams(&node))
		case "routes":
			errs = append(errs, f.parseRoutes(&node))
		default:
			var value any
			if err := node.Decode(&value); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", key, err))
			}
			f.values[key] = value
		}
	}
	return errors.Join(errs...)
}

func (f *configFile) parseUpstreams(node *yaml.Node) error {
	var nodes map[string]yaml.Node
	if err := node.Decode(&nodes); err != nil {
		return fmt.Errorf("upstreams: %w", explainKind(err, "want names, each with a url below it"))
	}
	f.Upstreams = map[string]upstreamConfig{}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		node := nodes[name]
		var config upstreamConfig
		errs = append(errs, decodeKeys("upstreams."+name, &node, &config))
		f.Upstreams[name] = config
	}
	return errors.Join(errs...)
}

func (f *configFile) parseRoutes(node *yaml.Node) error {
	var nodes []yaml.Node
	if err := node.Decode(&nodes); err != nil {
		return fmt.Errorf("routes: %w", explainKind(err, "want a list, each with a prefix and where it leads to"))
	}
	f.Routes = make([]routeConfig, len(nodes))
	var errs []error
	for i := range nodes {
		errs = append(errs, decodeKeys(fmt.Sprintf("routes[%d]", i), &nodes[i], &f.Routes[i]))
	}
	return errors.Join(errs...)
}

// decodeKeys decodes a mapping one key at a time, so that what is wrong is told with its key.
func decodeKeys(at string, node *yaml.Node, into any) error {
	var keys map[string]yaml.Node
	if err := node.Decode(&keys); err != nil {
		return fmt.Errorf("%s: %w", at, explainKind(err, "want keys and values"))
	}
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		node := keys[key]
		left := maxNodes
		value, err := withoutAliases(&node, &left)
		var text []byte
		if err == nil {
			text, err = yaml.Marshal(map[string]*yaml.Node{key: value})
		}
		if err == nil {
			decoder := yaml.NewDecoder(bytes.NewReader(text))
			decoder.KnownFields(true)
			err = decoder.Decode(into)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s.%s: %w", at, key, explainYAML(err)))
		}
	}
	return errors.Join(errs...)
}

// maxNodes is how much one value is made of, at most, when what its aliases stand for is written out.
const maxNodes = 10_000

// withoutAliases returns a copy of a node that stands for itself: what anchors elsewhere in the file name is written out.
func withoutAliases(node *yaml.Node, left *int) (*yaml.Node, error) {
	if *left--; *left < 0 {
		return nil, errors.New("its aliases stand for too much, or for one another")
	}
	if node.Kind == yaml.AliasNode {
		return withoutAliases(node.Alias, left)
	}
	whole := *node
	whole.Anchor, whole.Content = "", make([]*yaml.Node, len(node.Content))
	for i, child := range node.Content {
		var err error
		if whole.Content[i], err = withoutAliases(child, left); err != nil {
			return nil, err
		}
	}
	return &whole, nil
}

// explainKind is explainYAML where it is known what is wanted instead of a value of another kind.
func explainKind(err error, want string) error {
	if err = explainYAML(err); errors.Is(err, errOtherKind) {
		return errors.New(want)
	}
	return err
}

var errOtherKind = errors.New("a value of another kind is wanted")

// explainYAML leaves out lines, which are not those of the file, and Go's names of types.
func explainYAML(err error) error {
	var wrong *yaml.TypeError
	if !errors.As(err, &wrong) {
		return err
	}
	_, text, _ := strings.Cut(wrong.Errors[0], ": ")
	switch {
	case strings.Contains(text, "not found in type"):
		return errors.New("there is no such key")
	case strings.HasPrefix(text, "cannot unmarshal"):
		return errOtherKind
	}
	return errors.New(text)
}

// Validate implements [kong.Resolver]: a key that is no flag of any command is a mistake.
func (f *configFile) Validate(app *kong.Application) error {
	if f.err != nil {
		return f.err
	}
	known := map[string]bool{}
	err := kong.Visit(app, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok {
			known[flag.Name] = true
		}
		return next(nil)
	})
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(f.values)) {
		if !known[name] || name == "config" || name == "help" {
			return fmt.Errorf("--config: %s: %s: there is no such flag: want the name of one without its dashes, upstreams, or routes", f.path, name)
		}
	}
	return nil
}

// Resolve implements [kong.Resolver].
func (f *configFile) Resolve(ctx *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	for _, other := range ctx.Flags() {
		if other.Name == "config" {
			path, _ := ctx.FlagValue(other).(string)
			f.load(path)
		}
	}
	for _, name := range flag.Envs {
		if _, ok := os.LookupEnv(name); ok {
			return nil, nil // what the environment says stays
		}
	}
	value, ok := f.values[flag.Name]
	if !ok {
		return nil, nil
	}
	return flagText(value)
}

// flagText returns a value as it would stand on the command line.
func flagText(value any) (any, error) {
	switch v := value.(type) {
	case nil:
		return nil, nil
	case []any:
		texts := make([]string, len(v))
		for i, one := range v {
			texts[i] = fmt.Sprint(one)
			if strings.Contains(texts[i], ",") {
				return nil, fmt.Errorf("%q has a comma in it", texts[i])
			}
		}
		return strings.Join(texts, ","), nil
	case map[string]any:
		var texts []string
		for _, name := range slices.Sorted(maps.Keys(v)) {
			texts = append(texts, fmt.Sprintf("%s=%v", name, v[name]))
		}
		return strings.Join(texts, ";"), nil
	}
	return fmt.Sprint(value), nil
}
