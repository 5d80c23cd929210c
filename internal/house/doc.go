// Package house has no code: its tests keep the structure of the repository as it
// is meant to be. What each package may import is a golden file, so that a new
// dependency is a line in a review.
package house
