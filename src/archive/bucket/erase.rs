//! Taking objects away from a bucket, in all their versions.

use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use super::Bucket;
use crate::archive::erase::{Erase, Removed};
use crate::archive::{ArchiveError, Key};

/// A version of an object in a listing, or a marker that one was deleted.
struct Version {
    key: String,
    id: String,
    bytes: u64,
    latest: bool,
}

impl Erase for Bucket {
    async fn erase(&self, folder: &str) -> Result<Removed, ArchiveError> {
        let under = format!("{}{folder}", self.place.prefix);
        self.erase_versions(&under, |_| true).await
    }

    async fn erase_history(&self, key: &Key) -> Result<Removed, ArchiveError> {
        let key = self.key(key);
        // The listing also has what only begins with the key.
        self.erase_versions(&key, |version| version.key == key && !version.latest)
            .await
    }
}

impl Bucket {
    /// Page by page: a page of a listing is as much as one request deletes.
    async fn erase_versions(
        &self,
        under: &str,
        wanted: impl Fn(&Version) -> bool,
    ) -> Result<Removed, ArchiveError> {
        let mut removed = Removed::default();
        let (mut after_key, mut after_version) = (None, None);
        loop {
            let page = self
                .client
                .list_object_versions()
                .bucket(&self.place.bucket)
                .prefix(under)
                .set_key_marker(after_key.take())
                .set_version_id_marker(after_version.take())
                .send()
                .await
                .map_err(|error| self.failed(under, "list the versions of objects", &error))?;
            let versions = page.versions().iter().map(|version| Version {
                key: version.key().unwrap_or_default().to_owned(),
                id: version.version_id().unwrap_or("null").to_owned(),
                bytes: u64::try_from(version.size().unwrap_or_default()).unwrap_or_default(),
                latest: version.is_latest().unwrap_or_default(),
            });
            let markers = page.delete_markers().iter().map(|marker| Version {
                key: marker.key().unwrap_or_default().to_owned(),
                id: marker.version_id().unwrap_or("null").to_owned(),
                bytes: 0,
                latest: marker.is_latest().unwrap_or_default(),
            });
            let found: Vec<_> = versions.chain(markers).filter(|v| wanted(v)).collect();
            if !found.is_empty() {
                self.delete(under, &found).await?;
            }
            for version in &found {
                removed.versions += 1;
                removed.bytes = removed.bytes.saturating_add(version.bytes);
            }
            if page.is_truncated() != Some(true) {
                return Ok(removed);
            }
            after_key = page.next_key_marker;
            after_version = page.next_version_id_marker;
        }
    }

    async fn delete(&self, under: &str, versions: &[Version]) -> Result<(), ArchiveError> {
        let failed = |detail: String| ArchiveError::Refused {
            key: under.to_owned(),
            detail: format!("cannot delete all of it from {}: {detail}", self.place),
        };
        let identified = versions.iter().map(|version| {
            ObjectIdentifier::builder()
                .key(&version.key)
                .version_id(&version.id)
                .build()
        });
        let objects: Result<Vec<_>, _> = identified.collect();
        let delete = objects.and_then(|objects| {
            Delete::builder()
                .set_objects(Some(objects))
                .quiet(true)
                .build()
        });
        let delete = delete.map_err(|error| failed(error.to_string()))?;
        let deleted = self
            .client
            .delete_objects()
            .bucket(&self.place.bucket)
            .delete(delete)
            .send()
            .await
            .map_err(|error| self.failed(under, "delete it", &error))?;
        match deleted.errors().first() {
            None => Ok(()),
            Some(error) => Err(failed(format!(
                "{} of {} were refused, such as {} ({}); it takes the permissions \
                 s3:ListBucketVersions and s3:DeleteObjectVersion",
                deleted.errors().len(),
                versions.len(),
                error.key().unwrap_or_default(),
                error.code().unwrap_or_default(),
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::key::{Kind, files_of};
    use crate::aws::{self, loopback};
    use crate::export::Export;
    use http_body_util::Full;
    use std::sync::{Arc, Mutex};

    fn week() -> Export {
        Export {
            app: "st-1".parse().unwrap(),
            event: crate::export::Event::All,
            week: "2025-01-20".parse().unwrap(),
        }
    }

    /// A bucket that has these versions, a page for each list, and answers deletions so. Gives what
    /// was asked to be deleted.
    async fn serve(
        pages: Vec<&'static str>,
        answer: &'static str,
    ) -> (Arc<Mutex<Vec<String>>>, Bucket) {
        let deleted = Arc::new(Mutex::new(Vec::new()));
        let asked = Arc::clone(&deleted);
        let mut pages = pages.into_iter();
        let config = loopback::serve(1, move |request| {
            let body = if request.method() == hyper::Method::POST {
                let body = String::from_utf8(request.body().to_vec()).unwrap();
                asked.lock().unwrap().push(body);
                answer
            } else {
                assert!(request.uri().query().unwrap().contains("versions"));
                pages.next().unwrap()
            };
            hyper::Response::new(Full::new(body.into()))
        });
        let place = "s3://bucket/kore".parse().unwrap();
        (
            deleted,
            Bucket::new(aws::s3(&config.await, true), place, None),
        )
    }

    const FIRST: &str = "<ListVersionsResult><IsTruncated>true</IsTruncated>\
        <NextKeyMarker>k</NextKeyMarker><NextVersionIdMarker>v2</NextVersionIdMarker>\
        <Version><Key>k</Key><VersionId>v1</VersionId><Size>7</Size><IsLatest>true</IsLatest>\
        </Version><Version><Key>k</Key><VersionId>v2</VersionId><Size>5</Size>\
        <IsLatest>false</IsLatest></Version></ListVersionsResult>";
    const LAST: &str = "<ListVersionsResult><IsTruncated>false</IsTruncated><DeleteMarker>\
        <Key>k</Key><VersionId>m1</VersionId><IsLatest>false</IsLatest></DeleteMarker>\
        </ListVersionsResult>";
    const EMPTY: &str = "<ListVersionsResult/>";

    #[tokio::test]
    async fn every_version_on_every_page_is_deleted_and_markers_too() {
        let (asked, bucket) = serve(vec![FIRST, LAST], "<DeleteResult/>").await;
        let removed = bucket.erase(&files_of(Kind::Data, &week())).await.unwrap();
        let expected = Removed {
            versions: 3,
            bytes: 12,
        };
        assert_eq!(removed, expected);
        let asked = asked.lock().unwrap().concat();
        for id in ["v1", "v2", "m1"] {
            assert!(asked.contains(&format!("<VersionId>{id}<")), "{asked}");
        }
    }

    #[tokio::test]
    async fn only_older_versions_of_just_that_key_are_its_history() {
        const PAGE: &str = "<ListVersionsResult><Version>\
            <Key>kore/manifests/app=st-1/event=all/week=2025-01-20.json</Key>\
            <VersionId>now</VersionId><IsLatest>true</IsLatest></Version><Version>\
            <Key>kore/manifests/app=st-1/event=all/week=2025-01-20.json</Key>\
            <VersionId>before</VersionId><Size>3</Size><IsLatest>false</IsLatest></Version><Version>\
            <Key>kore/manifests/app=st-1/event=all/week=2025-01-20.json.x</Key>\
            <VersionId>other</VersionId><IsLatest>false</IsLatest></Version></ListVersionsResult>";
        let (asked, bucket) = serve(vec![PAGE], "<DeleteResult/>").await;
        let removed = bucket.erase_history(&Key::manifest(&week())).await.unwrap();
        assert_eq!((removed.versions, removed.bytes), (1, 3));
        let asked = asked.lock().unwrap().concat();
        assert!(asked.contains("before") && !asked.contains("now") && !asked.contains("other"));
        let (asked, bucket) = serve(vec![EMPTY], "").await;
        let removed = bucket.erase_history(&Key::manifest(&week())).await.unwrap();
        assert_eq!(removed, Removed::default());
        assert!(asked.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_version_that_is_not_deleted_is_an_error() {
        let refused = "<DeleteResult><Error><Key>k</Key><Code>AccessDenied</Code></Error>\
                       </DeleteResult>";
        let (_, bucket) = serve(vec![LAST], refused).await;
        let error = bucket.erase(&files_of(Kind::Data, &week())).await;
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("1 of 1 were refused, such as k (AccessDenied)"),
            "{error}"
        );
        assert!(error.contains("s3:DeleteObjectVersion"), "{error}");
    }
}
