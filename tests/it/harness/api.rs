//! The HTTP API of a daemon, as a test asks it.

use std::ops::Deref;

use serde_json::{Value, json};

use super::{Daemon, Process, eventually, http};

/// The address of a daemon, and a client for it.
pub struct Api {
    pub url: String,
    pub http: reqwest::Client,
}

impl Api {
    pub fn at(url: String) -> Self {
        Self { url, http: http() }
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        let response = self.http.get(format!("{}{path}", self.url)).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    pub async fn get_bytes(&self, path: &str) -> (u16, Vec<u8>) {
        let response = self.http.get(format!("{}{path}", self.url)).send().await.unwrap();
        (response.status().as_u16(), response.bytes().await.unwrap().to_vec())
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let response = self.http.post(format!("{}{path}", self.url)).json(body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    /// Removes a watch of the source `retab`.
    pub async fn forget(&self, job_id: &str) {
        let url = format!("{}/v1/watches/retab/{}", self.url, segment(job_id));
        assert_eq!(self.http.delete(url).send().await.unwrap().status(), 204, "{job_id}");
    }

    /// Registers a job and returns its watch.
    pub async fn watch(&self, job_id: &str) -> Value {
        let (status, watch) = self.post("/v1/watches", &json!({"job_id": job_id})).await;
        assert!(status == 202 || status == 200, "{status}: {watch}");
        watch
    }

    /// Registers a new watch with these fields.
    pub async fn register(&self, body: &Value) -> Value {
        let (status, watch) = self.post("/v1/watches", body).await;
        assert_eq!(status, 202, "{watch}");
        watch
    }

    /// Waits until `wanted` holds for the watch of a job, and returns the watch.
    pub async fn until(&self, job_id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.until_in("retab", job_id, what, wanted).await
    }

    /// Like [`Api::until`], for a job of another source than `retab`.
    pub async fn until_in(
        &self,
        source: &str,
        job_id: &str,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let path = format!("/v1/watches/{source}/{}", segment(job_id));
        let wanted = &wanted;
        eventually(&format!("{job_id} of {source} {what}"), || async {
            let (status, watch) = self.get(&path).await;
            (status == 200 && wanted(&watch)).then_some(watch)
        })
        .await
    }

    /// Waits until the watch of a job is done or dead, and returns the watch.
    pub async fn finished(&self, job_id: &str) -> Value {
        self.until(job_id, "finishes", is_finished).await
    }
}

/// Whether a watch has nothing left to do.
pub fn is_finished(watch: &Value) -> bool {
    watch["phase"] == "done" || watch["phase"] == "dead"
}

/// An id as one segment of a path.
pub fn segment(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

impl Deref for Daemon {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

impl Deref for Process {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}
