//! The models that requests are answered with, replaced as a whole when another list counts.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::chat::models::Models;
use crate::config::model_list::{LoadedModels, ModelList, ModelSource, Stamp};

/// Shortest time between two looks at the imported list's file.
const LOOK: Duration = Duration::from_secs(2);

/// The models in use. They are read again on a reload, and when a request finds that a list has been
/// imported.
#[derive(Debug)]
pub struct ModelsInUse {
    source: ModelSource,
    models: RwLock<Arc<Models>>,
    /// Held while a list is read.
    watch: Mutex<Watch>,
}

#[derive(Debug)]
struct Watch {
    /// The file's state when it was last read, whether or not it could be used.
    stamp: Option<Stamp>,
    looked: Instant,
}

impl ModelsInUse {
    /// Begins with models of a list that was read from `source`.
    pub fn new(source: ModelSource, models: Models, list: &ModelList) -> ModelsInUse {
        let watch = Watch { stamp: list.stamp.clone(), looked: Instant::now() };
        ModelsInUse { source, models: RwLock::new(Arc::new(models)), watch: Mutex::new(watch) }
    }

    /// Returns the models. Every few seconds, one caller first checks whether a list has been imported.
    pub fn current(&self) -> Arc<Models> {
        // While another looks, the present ones will do.
        if let Ok(mut watch) = self.watch.try_lock() {
            if watch.looked.elapsed() >= LOOK {
                watch.looked = Instant::now();
                if self.source.stamp() != watch.stamp {
                    self.replace(&mut watch);
                }
            }
        }
        self.models.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the models again. A list that cannot be used leaves the present ones in place.
    pub fn reload(&self) {
        self.replace(&mut self.watch.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn replace(&self, watch: &mut Watch) {
        // Before the file is read: what is written meanwhile is another state.
        watch.stamp = self.source.stamp();
        match self.source.read_strictly() {
            Ok(LoadedModels { models, list }) => {
                list.log("reloaded", &models);
                *self.models.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(models);
            }
            Err(error) => log::error!("the models stay as they were: {error}"),
        }
    }
}
