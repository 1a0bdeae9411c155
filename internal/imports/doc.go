// Package imports has no code: its tests hold the module to its layers, and to what an import of each public package costs.
package imports
