//! End-to-end tests of Lateen.
