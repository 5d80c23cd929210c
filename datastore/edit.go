package datastore

import (
	"errors"
	"fmt"

	"github.com/inferpick/inferpick/types"
)

// This file is for programs that write into manifests that others bring into the store.

// ErrNoObject is wrapped by the error of Edit if there is no manifest of that name.
var ErrNoObject = errors.New("no such manifest")

// Edit changes one manifest: it calls change with a copy, and commits that if the manifest is still
// what it was; else it calls change again, with a copy of the new one. Everybody sees the manifest
// before or after. An error of change ends it, and so does a manifest that is not good; then nothing
// has changed. No lock is held while change runs.
func (s *Store) Edit(kind string, name types.NamespacedName, change func(types.Object) error) error {
	key := objectName{kind, withNamespace(name)}
	for {
		s.mu.Lock()
		before := s.objects[key]
		s.mu.Unlock()
		if before == nil {
			return fmt.Errorf("datastore: %w: %s %s", ErrNoObject, kind, key.name)
		}
		after := clone(before)
		if err := change(after); err != nil {
			return err
		}
		objects, err := prepareObjects([]types.Object{after})
		if err != nil {
			return err
		}
		if done, err := s.exchange(key, before, objects[0]); done || err != nil {
			return err
		}
	}
}

// exchange commits after in the place of before, if that is what is there.
func (s *Store) exchange(key objectName, before, after types.Object) (bool, error) {
	if nameOf(after) != key {
		return false, fmt.Errorf("datastore: a change made %s %s of %s %s", after.Kind(), after.Key(), key.kind, key.name)
	}
	s.mu.Lock()
	defer s.deliver()
	defer s.mu.Unlock()
	if s.objects[key] != before { // objects are never changed in place
		return false, nil
	}
	if err := after.ValidateUpdate(before); err != nil {
		return false, fmt.Errorf("datastore: %w", err)
	}
	s.objects[key] = after
	if pool, ok := after.(*types.InferencePool); ok {
		s.declareLocked(pool)
	}
	s.publishManifestsLocked()
	return true, nil
}

// WatchManifests calls fn after each change of manifests, under the same rules as Watch: it should be
// quick. What there is then Snapshot.Manifests tells.
func (s *Store) WatchManifests(fn func()) (stop func()) {
	return watch(s, &s.onManifests, func(struct{}) { fn() }, func(*poolState) []struct{} { return nil })
}

// publishManifestsLocked publishes a new snapshot of everything, and tells who watches manifests. Caller
// must hold s.mu, and call deliver afterwards.
func (s *Store) publishManifestsLocked() {
	s.publishLocked()
	s.onManifests.queueLocked(struct{}{})
}

// Manifests returns all manifests, oldest first: see types.ObjectMeta.CompareAge. The slice and what is
// in it must not be modified. As long as no manifest changes, it is the same slice.
func (sn *Snapshot) Manifests() []types.Object { return sn.config.objects }
